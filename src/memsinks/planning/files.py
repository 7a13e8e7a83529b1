"""A plan in files: ``plan.json`` with every number, ``plan.md`` with the tables, ``plan.png`` with the plot."""

import json
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from memsinks.config import config_hash
from memsinks.corpus.files import new_directory
from memsinks.planning.allocations import Assessment
from memsinks.planning.overlap import expected_overlap, fraction_lost, others_on_a_row
from memsinks.planning.plan import RemovalPlan
from memsinks.planning.tables import markdown
from memsinks.report.format import percent
from memsinks.report.plots import Panel, Series, write_panels

FORMAT, FORMAT_VERSION = "memsinks-plan", 1
JSON, MARKDOWN, PLOT = "plan.json", "plan.md", "plan.png"


def write_plan(plan: RemovalPlan, output: Path) -> None:
    """Write the three files; the folder appears whole or not at all.

    Raises:
        InputError: the folder is not empty or cannot be written.
        MemsinksError: matplotlib is not installed.
    """
    with new_directory(output) as folder:
        content = json.dumps(as_dict(plan), indent=2, ensure_ascii=False, default=str, allow_nan=False)
        (folder / JSON).write_text(content + "\n", encoding="utf-8")
        (folder / MARKDOWN).write_text(markdown(plan) + f"\n![{plot_title(plan)}]({PLOT})\n", encoding="utf-8")
        write_panels([panel(plan)], folder / PLOT)


def as_dict(plan: RemovalPlan) -> dict[str, Any]:
    """Every number of a plan, for JSON. Fractions are in [0, 1], memory in bytes."""
    text, units, run = plan.text, plan.units, plan.of_run
    pool, active = int(plan.run.pool), int(plan.run.active)
    shared, sharing = run.candidate.shared_rows, len(text) - len(run.candidate.owners)
    each = run.cost.parameters / pool * active
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("memsinks", "torch", "transformers")},
        },
        "config": asdict(plan.config),
        "config_sha256": config_hash(plan.config),
        "corpus_sha256": plan.corpus,
        "question": asdict(plan.question)
        | {"remove": [loss.removed for loss in run.losses], "likely": plan.likely, "max_pool": plan.max_pool},
        "warnings": [asdict(caution) for caution in plan.cautions],
        "text": {
            "planned_documents": text.planned_documents,
            "governed_documents": text.documents,
            "governed_ids": len(text),
            "exposures_of_an_id": _spread(text.exposures),
            "tokens_of_an_id": _spread(text.tokens),
            "governed_tokens": int(text.tokens.sum()),
            "units": len(units),
            "ids_of_several_units": units.shared,
            "ids_without_a_unit": units.unnamed,
            "sources": {
                name: {"documents": source.documents, "governed": source.governed, "ids": len(source.ids)}
                for name, source in text.sources.items()
            },
        },
        "pool": {
            "sinks": pool,
            "active": active,
            "layers": plan.layers,
            "owners": len(run.candidate.owners),
            "sharing_ids": sharing,
            "expected_overlap": expected_overlap(shared, active) if sharing else 0.0,
            "others_on_a_sink": others_on_a_row(shared, active, sharing - 1) if sharing else 0.0,
            "covered_by_all": fraction_lost(shared, active, sharing) if sharing else 0.0,
            "used_by_no_other": 1 - fraction_lost(shared, active, sharing - 1) if sharing else 1.0,
            "parameters": run.cost.parameters,
            "parameters_of_an_id": each,
            "parameters_for_a_token_of_an_id": _spread(each / np.maximum(text.tokens, 1)),
            "parameters_for_a_governed_token": run.cost.parameters / max(1, int(text.tokens.sum())),
        },
        "layout": {key: value for key, value in asdict(plan.layout).items() if key != "bf16"},
        "without_sinks": asdict(plan.plain),
        "allocations": [_assessment(assessed) for assessed in plan.assessments],
        "recommendation": asdict(plan.recommendation),
    }


def panel(plan: RemovalPlan) -> Panel:
    """Fraction of a survivor's sinks that is lost, by the number that leaves: lines expected, points simulated."""
    series = []
    for assessed in plan.assessments:
        name = f"{assessed.candidate.name}{', run file' if assessed.candidate.of_run else ''}"
        series.append(
            Series(
                label=f"{name}: expected",
                x=list(range(len(assessed.curve))),
                y=assessed.curve.tolist(),
                group=name,
                marked=False,
            )
        )
        points = [loss.simulated for loss in assessed.losses if loss.simulated is not None]
        if points:
            series.append(
                Series(
                    label=f"{name}: simulated, 95 % of survivors",
                    x=[p.removed for p in points],
                    y=[p.mean for p in points],
                    low=[p.least for p in points],
                    high=[p.most for p in points],
                    joined=False,
                    group=name,
                )
            )
    limit = plan.question.collateral
    return Panel(
        title=plot_title(plan),
        x_label=f"{plan.units.name} removed, of {len(plan.units):,}",
        y_label="fraction of a survivor's sinks",
        series=series,
        lines={f"{percent(limit)} allowed": limit},
        whole=True,
    )


def plot_title(plan: RemovalPlan) -> str:
    """What the plot shows."""
    return f"Sinks that a survivor loses when {plan.units.name} leave"


def _assessment(assessed: Assessment) -> dict[str, Any]:
    candidate = assessed.candidate
    return {
        "allocation": candidate.name,
        "of_run": candidate.of_run,
        "sinks": candidate.config.facts(),
        "owners": len(candidate.owners),
        "fits": assessed.fits,
        "collateral": assessed.collateral,
        "within": assessed.within,
        "losses": [asdict(loss) for loss in assessed.losses],
        "expected_by_number": assessed.curve.tolist(),
        "likely": None if assessed.likely is None else asdict(assessed.likely),
        "cost": asdict(assessed.cost),
    }


def _spread(values: np.ndarray) -> dict[str, float]:
    return {"least": float(values.min()), "median": float(np.median(values)), "most": float(values.max())}
