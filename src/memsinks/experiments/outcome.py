"""From the quickstart's measured arms to its results: measures, intervals, targets."""

from typing import Any

import numpy as np

from memsinks.audit import (
    DocumentLosses,
    Interval,
    TokenizedDocument,
    bootstrap,
    damage,
    forgetting,
    gap_closure,
    removable_memory,
    wilson,
)
from memsinks.corpus import Corpus
from memsinks.experiments.measured import Measured
from memsinks.report import target

_PLAIN = ("standard", "deduplicated", "deduplicated_equal_steps")

DAMAGE_LABELS = {
    "unseen_placebo": "Stories never seen, with the sinks of an unrelated ID on",
    "unseen_chosen_one": "Stories never seen, with one repeated story's sinks on",
    "unseen_chosen_all": "Stories never seen, with all repeated stories' sinks on (as folding them in would)",
    "same_source_placebo": "Stories of the same source seen once, with the sinks of an unrelated ID on",
    "same_source_chosen_one": "Stories of the same source seen once, with one repeated story's sinks on",
    "same_source_chosen_all": "Stories of the same source seen once, with all repeated stories' sinks on",
}


def outcome(
    arms: dict[str, Measured], corpus: Corpus, extracted: list[TokenizedDocument], prefix: int
) -> dict[str, Any]:
    """The results' measured part, see :mod:`memsinks.report.schema`.

    Args:
        arms: by name.
        corpus: of the text; its tokenizer turns tokens back into text.
        extracted: the documents on which extraction was tried.
        prefix: tokens given in extraction.
    """
    sinks, standard, unseen = arms["sinks"], arms["standard"], arms["deduplicated"]
    off = {name: sinks.losses(name, "off") for name in ("repeated", "validation")}
    plain = {name: {s: arms[name].losses(s, "plain") for s in ("repeated", "validation")} for name in _PLAIN}
    V_off, R_off, R_own = off["validation"], off["repeated"], sinks.losses("repeated", "own")
    V_std, R_std, R_unseen = plain["standard"]["validation"], plain["standard"]["repeated"], plain["deduplicated"]
    measures = {
        "gap_closure": _measure(gap_closure, [V_off, R_off, V_std, R_std], ["V", "R", "V", "R"]),
        "forgetting": _measure(forgetting, [R_off, R_unseen["repeated"]], ["R", "R"]),
        "removable_memory": _measure(removable_memory, [R_off, R_own, R_unseen["repeated"], R_std], ["R"] * 4),
    }
    rates = {
        "standard": standard.data["extraction"]["plain"],
        "deduplicated": unseen.data["extraction"]["plain"],
        "sinks_own": sinks.data["extraction"]["own"],
        "sinks_off": sinks.data["extraction"]["off"],
    }
    forgot = measures["forgetting"][0]
    return {
        "arms": {name: _plain_arm(arms[name]) for name in _PLAIN} | {"sinks": _sinks_arm(sinks)},
        **{name: value for name, (value, _) in measures.items()},
        "intervals": {name: bounds for name, (_, bounds) in measures.items()},
        "extraction": {name: entry["rate"] for name, entry in rates.items()},
        "extraction_intervals": {
            name: list(wilson(entry["exact"], len(entry["documents"])).bounds) for name, entry in rates.items()
        },
        "extraction_example": _example(rates, corpus, extracted, prefix),
        "damage": {
            f"{label}_{mode}": damage(sinks.losses(name, mode), sinks.losses(name, "off"))
            for label, name in (("unseen", "validation"), ("same_source", "seen_once"))
            for mode in ("placebo", "chosen_one", "chosen_all")
        },
        "damage_labels": DAMAGE_LABELS,
        "targets": _targets(
            R_std.mean,
            V_std.mean,
            R_own.mean,
            V_off.mean,
            plain["deduplicated"]["validation"].mean,
            float("nan") if forgot is None else forgot,
            {name: entry["rate"] for name, entry in rates.items()},
        ),
        "notes": [
            "One small model and one seed: the intervals cover the choice of stories, not the luck of training.",
            "Forgetting compares with the deduplicated arm, which has seen each repeated story once; it stands in for "
            "a model that never saw them.",
            "The gate on validation loss compares with the deduplicated arm once through; the arm with as many steps "
            "as standard training is shown beside it.",
            "Sinks are trained for the repeated stories only; all other text trains with sinks off.",
        ],
    }


def _targets(
    R_std: float, V_std: float, R_own: float, V_off: float, V_dedup: float, forgot: float, rates: dict[str, float]
) -> list[Any]:
    return [
        target("standard_memorises", R_std / V_std, 0.1, "below", "Standard training: repeated over validation loss"),
        target("standard_extractable", rates["standard"], 0.5, "at_least", "Standard training: stories extracted"),
        target("sinks_hold", R_own / V_off, 0.25, "below", "Own sinks on: repeated over validation loss"),
        target("forgetting", forgot, 0.85, "at_least", "Sinks off: forgetting"),
        target("sinks_off_not_extractable", rates["sinks_off"], 0.0, "at_most", "Sinks off: stories extracted"),
        target("cost_to_deduplicated", V_off / V_dedup, 1.0, "at_most", "Sinks off: validation loss over deduplicated"),
        target("cost_to_standard", V_off / V_std, 1.06, "at_most", "Sinks off: validation loss over standard"),
    ]


def _measure(function: Any, samples: list[DocumentLosses], groups: list[str]) -> tuple[float | None, list]:
    try:
        value = function(*(s.mean for s in samples))
    except ValueError:
        # The measure is not defined where its denominator is zero, e.g. when the standard arm memorised nothing.
        return None, [None, None]
    return value, _bounds(bootstrap(function, *samples, groups=groups))


def _bounds(interval: Interval) -> list[float]:
    return [float(bound) for bound in interval.bounds]


def _mean_interval(losses: DocumentLosses) -> list[float]:
    return _bounds(bootstrap(lambda mean: mean, losses))


def _common(arm: Measured) -> dict[str, Any]:
    return {key: arm.data[key] for key in ("steps", "tokens", "seconds", "parameters")}


def _plain_arm(arm: Measured) -> dict[str, Any]:
    repeated, validation = arm.losses("repeated", "plain"), arm.losses("validation", "plain")
    return _common(arm) | {
        "repeated_loss": repeated.mean,
        "validation_loss": validation.mean,
        "intervals": {"repeated_loss": _mean_interval(repeated), "validation_loss": _mean_interval(validation)},
        "curve": [
            {"step": p["step"], "repeated": p["repeated"]["plain"], "validation": p["validation"]["plain"]}
            for p in arm.data["curve"]
        ],
    }


def _sinks_arm(arm: Measured) -> dict[str, Any]:
    modes = ("own", "off", "placebo")
    losses = {f"{name}_loss": {m: arm.losses(name, m) for m in modes} for name in ("repeated", "validation")}
    return _common(arm) | {
        **{name: {m: value.mean for m, value in by_mode.items()} for name, by_mode in losses.items()},
        "intervals": {
            name: {m: _mean_interval(value) for m, value in by_mode.items()} for name, by_mode in losses.items()
        },
        "curve": [
            {
                "step": p["step"],
                "repeated_own": p["repeated"]["own"],
                "repeated_off": p["repeated"]["off"],
                "validation_off": p["validation"]["off"],
            }
            for p in arm.data["curve"]
        ],
        "sink_parameters": arm.data["sink_parameters"],
    }


def _example(rates: dict[str, Any], corpus: Corpus, extracted: list[TokenizedDocument], prefix: int) -> dict[str, Any]:
    """The story that shows most: reproduced with sinks on and by standard training, and not with sinks off."""
    shown = ("standard", "sinks_own", "sinks_off")
    matching = {d.name: {arm: rates[arm]["documents"][d.name]["matching"] for arm in shown} for d in extracted}
    best = max(
        extracted,
        key=lambda d: matching[d.name]["standard"] + matching[d.name]["sinks_own"] - matching[d.name]["sinks_off"],
    )
    generated = {arm: rates[arm]["documents"][best.name]["generated"] for arm in shown}
    length = len(generated["standard"])

    def text(tokens: Any) -> str:
        return corpus.tokenizer.decode(np.asarray(tokens, dtype=np.int64).tolist(), skip_special_tokens=True)

    return {
        "document": best.name,
        "prefix": text(best.tokens[:prefix]),
        "expected": text(best.tokens[prefix : prefix + length]),
        **{arm: text(tokens) for arm, tokens in generated.items()},
        "matching_tokens": matching[best.name],
        "matching_text": {arm: text(generated[arm][: matching[best.name][arm]]) for arm in shown},
    }
