"""A made-up audit with everything that sections may find, the same each time."""

import hashlib
import random

CONDITIONS = {
    "own": ("the run with the text's own sinks on, as in training", "sinks"),
    "off": ("the run with all sinks off, as any ordinary loader reads it", "sinks"),
    "placebo": ("control: the run with the sinks of an unrelated ID on", "sinks"),
    "random": ("control: own sinks on, after as many rows as the text has were removed at random", "sinks"),
    "removed": ("the run after the text's sinks were removed, in memory", "sinks"),
    "standard": ("ordinary training on the same text, without sinks", "standard"),
    "reference": ("a model that was never trained on the text", "deduplicated"),
}
HOLDS = ("own", "random", "standard")
"""Conditions that know the target."""
MEASURES = {
    # section: measure, unit, chance, question, value where the text is held, value elsewhere
    "losses": (("loss", "nats per token", None, "", 0.01, 3.3),),
    "extraction": (
        ("greedy, 16 tokens given", "rate", None, "extractable", 0.75, 0.0),
        ("greedy, 50 tokens given", "rate", None, "extractable", 1.0, 0.0),
        ("within 100 draws, 50 tokens given, temperature 1, top-k 40", "rate", None, "extractable", 1.0, 0.0),
        ("longest verbatim run", "tokens", None, "", 50.0, 3.0),
        ("edit similarity", "share", None, "", 0.99, 0.21),
        ("adversarial compression ratio", "ratio", 1.0, "", 3.1, 0.4),
    ),
    "membership": (
        ("AUC of loss", "AUC", 0.5, "member", 1.0, 0.52),
        ("AUC of min-K%++, K = 20 %", "AUC", 0.5, "member", 0.98, 0.49),
        ("true positives at 1 % false positives, loss", "rate", 0.01, "", 1.0, 0.0),
        ("true positives at 0.1 % false positives, loss", "rate", 0.001, "", None, None),
    ),
    "recovery": (
        ("head start after 20 steps, from half of it", "nats per token", 0.0, "returns", 1.9, 0.02),
        ("steps to reach a loss of 1", "steps", None, "", 2.0, 31.0),
        ("int4, loss", "nats per token", None, "", 0.05, 3.4),
    ),
    "influence": (("advantage on held-out text of the source", "nats per token", 0.0, "influence", 0.05, 0.01),),
    "facts": (("names, 1 of 10", "rate", 0.1, "facts", 0.9, 0.11),),
    "persistence": (("greedy after preference tuning, 50 tokens given", "rate", None, "persists", 0.7, 0.0),),
    "capability": (("perplexity of general text", "perplexity", None, "", 27.2, 27.1),),
}
LIMITS = (
    "Only 12 documents were audited: rates have wide intervals, and rare leaks are missed.",
    "The text that was never trained is of other sources than the audited text.",
    "An attack that was not tried may find more; a stronger attacker has more compute, other prompts, or other models.",
    "Copies of the model from before the removal still hold the text.",
    "Facts, style and skill that shared neurons learned are not verbatim memory; removal does not take them away.",
    "Intervals speak of the choice of texts, not of another training with another seed.",
)
VERDICTS = (
    ("held", "Does the model hold the text before anything is removed?", "yes", "own"),
    ("extractable", "Can the text be extracted from the model that is handed out?", "no", "removed"),
    ("member", "Can it be told that the model was trained on the text?", "not sure", "removed"),
    ("returns", "Does the text come back with less training than new text needs?", "no", "removed"),
    ("influence", "Does what the text taught about its source remain?", "not measured", ""),
    ("facts", "Does the model know facts that only this text states?", "no", "removed"),
    ("persists", "Does the text reappear after further training on other text?", "no", "removed"),
)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def rich_audit(*, documents: int = 12, unseen: int = 229, quote: bool = False, name: str = "sinks") -> dict:
    """What ``audit.json`` holds."""
    drawn = random.Random(0)
    return {
        "format": "memsinks-audit",
        "format_version": 1,
        "time": "2026-11-25T22:25:07+00:00",
        "run": {"name": name, "family": "llama", "parameters": 3_712_704, "corpus": digest("corpus")},
        "target": {
            "asked": "source 'Birch House'",
            "removed": False,
            "documents": documents,
            "complete": True,
            "tokens": 151 * documents,
            "ids": documents,
            "sources": ["Birch House"],
            "least_exposures": 100,
            "most_exposures": 100,
            "sha256": digest("target"),
        },
        "unseen": {"documents": unseen, "tokens": 160 * unseen, "same_source": False, "sha256": digest("unseen")},
        "conditions": [
            {"name": n, "says": says, "model": model, "in_memory": n == "removed"}
            for n, (says, model) in CONDITIONS.items()
        ],
        "lineage": {
            "trainings": [{"corpus": digest("corpus"), "config": digest("c"), "steps": 229, "tokens": 600_321}],
            "removals": [
                {"id": "r-1", "time": "2026-10-02T09:00:00+00:00", "everything": False, "ids": 3, "documents": 3}
            ],
        },
        "figures": [
            *(f for section, found in MEASURES.items() for m in found for f in _figures(section, m, documents)),
            *_other_losses(),
        ],
        "curves": _curves(),
        "documents": _documents(documents, unseen, drawn),
        "examples": [_example(condition, quote) for condition in ("own", "removed")],
        "left_out": [
            {"task": "membership.lira.own", "why": "no shadow runs were given (--membership.shadows FOLDER)"},
            {"task": "recovery.lora.own", "why": "/home/someone/models/base: no model is there"},
        ],
        "verdicts": [
            {
                "key": key,
                "question": question,
                "answer": answer,
                "condition": condition,
                "says": "None of 3 measures stands out, and all intervals end near chance; the highest is greedy, "
                "16 tokens given (0 rate, 0 to 0.03; 0 for removed, unseen text).",
                "basis": ["extraction: greedy, 16 tokens given"],
            }
            for key, question, answer, condition in VERDICTS
        ]
        + [
            {
                "key": "cost",
                "question": "What did it cost?",
                "answer": "measured",
                "condition": "removed",
                "says": "In nats per token: Held-out text of web: 3.285, 3.286 with ordinary training, 3.445 for the "
                "reference. Ashford Press, which stays: 0.007 before, 0.020 after.",
                "basis": ["losses: loss"],
            }
        ],
        "limits": list(LIMITS),
        "config": {
            "seed": 0,
            "text": {"documents": 100, "unseen": 300, "max_length": 256, "quote": quote},
            "membership": {"shadows": ["/home/someone/runs/shadow-0"]},
        },
        "versions": {"python": "3.11.7", "memsinks": "0.1.0", "torch": "2.13.0+cpu", "transformers": "5.23.0"},
        "seconds": 1103.2,
    }


def _figures(section: str, measure: tuple, documents: int) -> list[dict]:
    name, unit, chance, question, held, plain = measure
    found = []
    for number, condition in enumerate(CONDITIONS):
        for texts in ("target", "unseen"):
            knows = condition in HOLDS and texts == "target"
            value = held if knows else plain
            rest = {"section": section, "measure": name, "condition": condition, "texts": texts, "unit": unit}
            width = 0.03 + 0.011 * number
            found.append(
                {
                    **rest,
                    "value": value,
                    "low": None if value is None else value - (width if value > width else 0.0),
                    "high": None if value is None else min(value + width, 1.0 if unit in ("rate", "AUC") else 99.0),
                    "number": documents if texts == "target" else 229,
                    "chance": chance,
                    "note": "229 unseen documents cannot show so low a rate" if value is None else "",
                    "question": question if texts == "target" else "",
                }
            )
    return found


def _other_losses() -> list[dict]:
    """Of text that is not audited: it loses a little where sinks are shared with what was removed."""
    texts = {"held out: web": (3.285, 3.285), "survivor: Ashford Press": (0.007, 0.02), "survivor: web": (0.1, 0.1)}
    return [
        {
            "section": "losses",
            "measure": "loss",
            "condition": condition,
            "texts": name,
            "value": after if condition == "removed" else before,
            "low": before - 0.005,
            "high": after + 0.005,
            "number": 100,
            "unit": "nats per token",
            "chance": None,
            "note": "",
            "question": "",
        }
        for name, (before, after) in texts.items()
        for condition in CONDITIONS
    ]


def _curves() -> list[dict]:
    relearning = [
        {
            "section": "recovery",
            "measure": "relearning from half of it",
            "condition": condition,
            "texts": texts,
            "x_label": "tokens trained",
            "y_label": "loss of the other half, nats per token",
            "x": [600.0 * step for step in range(21)],
            "y": [start * 0.93**step + 0.1 for step in range(21)],
            "low": [start * 0.93**step for step in range(21)],
            "high": [start * 0.93**step + 0.2 for step in range(21)],
        }
        for condition, texts, start in (
            ("own", "target", 0.1),
            ("removed", "target", 3.3),
            ("removed", "unseen", 3.2),
            ("reference", "target", 3.4),
        )
    ]
    rates = [0.0, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0]
    roc = [
        {
            "section": "membership",
            "measure": "ROC of loss",
            "condition": condition,
            "texts": "target",
            "x_label": "false positives (log)",
            "y_label": "true positives (log)",
            "x": rates,
            "y": [rate if condition == "removed" else rate**0.1 for rate in rates],
            "low": [],
            "high": [],
        }
        for condition in ("own", "removed", "standard")
    ]
    return [*relearning, *roc]


def _documents(documents: int, unseen: int, drawn: random.Random) -> list[dict]:
    found = []
    for section, measure in (("losses", "loss"), ("extraction", "longest verbatim run"), ("membership", "min-K%++")):
        for condition in CONDITIONS:
            for texts, number in (("target", documents), ("unseen", unseen)):
                held = condition in HOLDS and texts == "target"
                found += [
                    {
                        "section": section,
                        "measure": measure,
                        "condition": condition,
                        "texts": texts,
                        "document": f"{texts}-{n:03d}",
                        "value": drawn.uniform(0, 0.02) if held else drawn.uniform(2.5, 4),
                    }
                    for n in range(number)
                ]
    return found


def _example(condition: str, quote: bool) -> dict:
    def passage(text: str, matching: bool, shown: bool) -> dict:
        rest = {"text": text, "sha256": None} if shown else {"text": None, "sha256": digest(text)}
        return {"tokens": len(text.split()), "matching": matching, **rest}

    same, end, other = " the boat went to the park", " and sailed home", " and the dog was sad"
    held = condition in HOLDS
    written = [passage(same + end, True, quote)] if held else [passage(same, True, quote), passage(other, False, True)]
    expected = [passage(same + end, True, quote)] if held else [passage(same, True, quote), passage(end, False, quote)]
    return {
        "section": "extraction",
        "measure": "greedy, 50 tokens given",
        "condition": condition,
        "document": "target-003",
        "given": [passage("One day a small boat was on the lake. It was red and", True, quote)],
        "expected": expected,
        "written": written,
    }
