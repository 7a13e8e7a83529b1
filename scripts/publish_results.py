"""Copy finished experiments to results/ and docs/figures/, and write docs/experiments.md from what is there.

::

    python scripts/publish_results.py runs/reproduce/ts-repetition-mini ...    # copy these, then write the page
    python scripts/publish_results.py                                          # write the page only
"""

import json
import shutil
import sys
from pathlib import Path

from memsinks.corpus.noise import FILE as NOISE_FILE
from memsinks.experiments.ablations import NOISE
from memsinks.experiments.catalogue import SCALES
from memsinks.experiments.reproduce import EXPERIMENTS

ROOT = Path(__file__).parents[1]
RESULTS, FIGURES, PAGE = ROOT / "results", ROOT / "docs" / "figures", ROOT / "docs" / "experiments.md"
KEPT = ("table.md", "rows.csv", "summary.json", "seed-*.json")


def main() -> None:
    """Copy the folders that are named, then write the page."""
    for folder in map(Path, sys.argv[1:]):
        name, _, scale = folder.name.rpartition("-")
        target = RESULTS / name / scale
        target.mkdir(parents=True, exist_ok=True)
        for file in (file for pattern in KEPT for file in folder.glob(pattern)):
            shutil.copyfile(file, target / file.name)
        FIGURES.mkdir(exist_ok=True)
        for figure in folder.glob("*.png"):
            shutil.copyfile(figure, FIGURES / f"{name}-{scale}-{figure.name}")
    PAGE.write_text(page())
    write_noise_effect()


def write_noise_effect() -> None:
    """What the package says wrong IDs cost: forgetting in the ablation ``id-noise`` at its largest scale."""
    scale = next(s for s in reversed(SCALES) if (RESULTS / "id-noise" / s / "summary.json").is_file())
    summary = json.loads((RESULTS / "id-noise" / scale / "summary.json").read_text())
    found = {entry["arm"]: entry for entry in summary["figures"] if entry["measure"] == "forgetting_steps"}
    kinds: dict[str, list[dict[str, float]]] = {"consistent": [], "fresh": []}
    for kind, points in kinds.items():
        for share in NOISE:
            entry = found[f"noise_{kind}_{share:g}" if share else "sinks"]
            points.append({"share": share, "forgetting": entry["mean"], "low": entry["low"], "high": entry["high"]})
    seeds = ", ".join(map(str, summary["seeds"]))
    basis = f"memsinks reproduce id-noise --scale {scale}, seed{'s' if len(summary['seeds']) > 1 else ''} {seeds}"
    content = {"format": "memsinks-noise-effect", "format_version": 1, "basis": basis, "kinds": kinds}
    (ROOT / "src" / "memsinks" / "data" / NOISE_FILE).write_text(json.dumps(content, indent=1) + "\n")


def page() -> str:
    """The page: what each experiment says, its tables and figures at every scale that has results, and the notes."""
    parts = [(RESULTS / "introduction.md").read_text()]
    for name, experiment in EXPERIMENTS.items():
        scales = [scale for scale in reversed(SCALES) if (RESULTS / name / scale / "summary.json").is_file()]
        parts.append(f"## {name}\n\n{experiment.title}.\n\n- Claim: {experiment.claim}")
        parts[-1] += f"\n- Supports: {experiment.supports}\n- Does not show: {experiment.not_shown}\n"
        notes = RESULTS / name / "notes.md"
        if notes.is_file():
            parts.append(notes.read_text())
        if not scales:
            smallest = "mini" if "mini" in experiment.settings else next(iter(experiment.settings))
            parts.append(f"Not run yet: `memsinks reproduce {name} --scale {smallest}`.\n")
        for scale in scales:
            folder = RESULTS / name / scale
            seeds = json.loads((folder / "summary.json").read_text())["seeds"]
            interval = "mean and 95 % interval over seeds" if len(seeds) > 1 else "95 % interval over documents"
            parts.append(
                f"`memsinks reproduce {name} --scale {scale}`, seed{'s' if len(seeds) > 1 else ''} "
                f"{', '.join(map(str, seeds))}; {interval} (`results/{name}/{scale}/`).\n"
            )
            parts.append((folder / "table.md").read_text())
            parts += [
                f"![{figure.stem}](figures/{figure.name})\n" for figure in sorted(FIGURES.glob(f"{name}-{scale}-*.png"))
            ]
    return "\n".join(parts)


if __name__ == "__main__":
    main()
