"""One readable HTML page from a run's results: everything inside the file, nothing loaded from anywhere."""

from pathlib import Path
from typing import Any

from memsinks.report import format as fmt
from memsinks.report.curves import charts
from memsinks.report.html import environment, plotly_js, settings, write_whole
from memsinks.report.rows import ARM_NAMES, COLUMNS, arm_rows
from memsinks.report.schema import ExtractionExample, Results, validate
from memsinks.report.verdicts import basis_warning, short, verdicts

WRITERS = {"standard": "Standard model", "sinks_own": "Model with sinks, on", "sinks_off": "Model with sinks, off"}


def write_page(results: dict[str, Any], path: Path) -> None:
    """Write the page of one run.

    Args:
        results: what ``results.json`` holds, see :class:`memsinks.report.schema.Results`.
        path: the HTML file; its folder is made, and a file that is there is replaced once the new one is whole.

    Raises:
        InputError: ``results`` does not follow the schema; nothing is written.
        MemsinksError: the ``report`` extra is not installed.
    """
    write_whole(Path(path), render_page(validate(results)))


def render_page(results: Results) -> str:
    """The page's HTML."""
    plots = charts(results)
    return (
        environment()
        .get_template("page.html")
        .render(
            results=results,
            verdicts=verdicts(results),
            warning=basis_warning(results),
            columns=COLUMNS,
            rows=arm_rows(results),
            measures=_measures(results),
            damage=_damage(results),
            writers=_writers(results["extraction_example"]),
            charts=plots,
            figures={chart.key: chart.figure for chart in plots},
            config=settings(results["config"]),
            versions=settings(results["versions"]),
            times=_times(results),
            plotly_js=plotly_js(),
            fmt=fmt,
            short=short,
        )
    )


def _measures(results: Results) -> list[tuple[str, str, str, str]]:
    """Name, value, interval and meaning of each measure."""
    between = results["intervals"]
    return [
        (
            "Gap closure",
            fmt.number(results["gap_closure"]),
            fmt.interval(between["gap_closure"]),
            "How much of standard training's gap between repeated and validation loss is gone with sinks off. "
            "1: no gap is left. 0: the gap is what it was.",
        ),
        (
            "Forgetting",
            fmt.number(results["forgetting"]),
            fmt.interval(between["forgetting"]),
            "The loss on repeated stories with sinks off, over that of a model that did not train on them repeatedly. "
            "1: no more is known of them. Below 1: something stayed.",
        ),
        (
            "Removable memory",
            fmt.number(results["removable_memory"]),
            fmt.interval(between["removable_memory"]),
            "What the repeated stories lose when sinks go off, over all that standard training memorised of them. "
            "1: the sinks held all of it. 0: none.",
        ),
    ]


def _damage(results: Results) -> list[tuple[str, str]]:
    labels = results.get("damage_labels", {})
    return [(labels.get(key, key.replace("_", " ")), fmt.signed(value)) for key, value in results["damage"].items()]


def _writers(example: ExtractionExample) -> list[dict[str, Any]]:
    """Each continuation split into the part that matches the story and the rest."""
    texts: dict[str, Any] = dict(example)
    writers = []
    for key, name in WRITERS.items():
        matching = _shared_start(texts[key], texts["matching_text"][key])
        writers.append(
            {
                "name": name,
                "matching": matching,
                "rest": texts[key][len(matching) :],
                "tokens": texts["matching_tokens"][key],
            }
        )
    return writers


def _shared_start(one: str, other: str) -> str:
    # A token can end inside a character, so the matching text may end in a replacement mark that the whole has not.
    pairs = enumerate(zip(one, other, strict=False))
    return one[: next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))]


def _times(results: Results) -> list[tuple[str, float]]:
    """Training seconds of each arm."""
    arms: dict[str, Any] = dict(results["arms"])
    return [(name, arms[key]["seconds"]) for key, name in {**ARM_NAMES, "sinks": "Sinks"}.items()]
