"""Print the tables of docs/results.md from the files in results/quickstart."""

import json
import statistics
from collections.abc import Callable
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "results" / "quickstart"


def main() -> None:
    """Print both tables as Markdown."""
    seeds = [json.loads(file.read_text()) for file in sorted(FOLDER.glob("seed-*.json"))]
    names = [f"seed {run['seed']}" for run in seeds]
    print(f"| | {' | '.join(names)} | mean |\n|---|{'---|' * (len(seeds) + 1)}")
    for label, value in ROWS.items():
        values = [value(run) for run in seeds]
        print(f"| {label} | {' | '.join(f'{v:.3f}' for v in values)} | {statistics.mean(values):.3f} |")
    print("\n| target | limit | " + " | ".join(names) + " |\n|---|---|" + "---|" * len(seeds))
    for index, target in enumerate(seeds[0]["targets"]):
        found = [run["targets"][index] for run in seeds]
        cells = [f"{t['value']:.3f} {'met' if t['met'] else '**missed**'}" for t in found]
        limit = f"{target['direction'].replace('_', ' ')} {target['limit']:g}"
        print(f"| {target['text']} | {limit} | {' | '.join(cells)} |")
    tried = json.loads((FOLDER / "tried.json").read_text())
    print("\n| | settings | standard R, V | deduplicated R, V | sinks R own, R off, V off | verdict |")
    print("|---|---|---|---|---|---|")
    for candidate in tried["candidates"]:
        arms, settings = candidate["arms"], candidate["settings"]
        plain = [_losses(arms.get(name), ("repeated", "validation"), "plain") for name in ("standard", "deduplicated")]
        sinks = arms.get("sinks")
        cell = ""
        if sinks is not None:
            cell = f"{_mean(sinks, 'repeated', 'own')}, {_losses(sinks, ('repeated', 'validation'), 'off')}"
        text = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in settings.items())
        print(f"| {candidate['name']} | {text} | {plain[0]} | {plain[1]} | {cell} | {candidate['verdict']} |")


def _losses(arm: dict | None, sets: tuple[str, ...], mode: str) -> str:
    return "" if arm is None else ", ".join(_mean(arm, name, mode) for name in sets)


def _mean(arm: dict, name: str, mode: str) -> str:
    return f"{arm['losses'][name][mode]:.3f}"


def _arm(arm: str, loss: str, mode: str | None = None) -> Callable[[dict], float]:
    def value(run: dict) -> float:
        found = run["arms"][arm][loss]
        return found if mode is None else found[mode]

    return value


ROWS = {
    "standard: R": _arm("standard", "repeated_loss"),
    "standard: V": _arm("standard", "validation_loss"),
    "deduplicated, once through: R": _arm("deduplicated", "repeated_loss"),
    "deduplicated, once through: V": _arm("deduplicated", "validation_loss"),
    "deduplicated, equal steps: R": _arm("deduplicated_equal_steps", "repeated_loss"),
    "deduplicated, equal steps: V": _arm("deduplicated_equal_steps", "validation_loss"),
    "sinks own: R": _arm("sinks", "repeated_loss", "own"),
    "sinks off: R": _arm("sinks", "repeated_loss", "off"),
    "sinks off: V": _arm("sinks", "validation_loss", "off"),
    "sinks placebo: R": _arm("sinks", "repeated_loss", "placebo"),
    "sinks placebo: V": _arm("sinks", "validation_loss", "placebo"),
    "forgetting": lambda run: run["forgetting"],
    "gap closure": lambda run: run["gap_closure"],
    "removable memory": lambda run: run["removable_memory"],
    "extracted, standard": lambda run: run["extraction"]["standard"],
    "extracted, sinks own": lambda run: run["extraction"]["sinks_own"],
    "extracted, sinks off": lambda run: run["extraction"]["sinks_off"],
    "damage to unseen stories: placebo": lambda run: run["damage"]["unseen_placebo"],
    "damage to unseen stories: one story's sinks": lambda run: run["damage"]["unseen_chosen_one"],
    "damage to unseen stories: all repeated stories' sinks": lambda run: run["damage"]["unseen_chosen_all"],
    "minutes": lambda run: run["seconds"] / 60,
}


if __name__ == "__main__":
    main()
