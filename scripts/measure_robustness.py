"""Measure what training with frozen sinks on does to other text; writes results/robustness/seed-<seed>.json.

python scripts/measure_robustness.py --seed 0
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from memsinks.experiments.quickstart import QuickstartConfig
from memsinks.experiments.robustness import robustness

SHARES = (0.0, 0.03, 0.1, 0.3)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("runs/robustness"))
    parser.add_argument("--fast", action="store_true", help="sizes that only show that it works")
    options = parser.parse_args()
    config = QuickstartConfig(seed=options.seed)
    results = robustness(
        replace(config.fast(), seed=options.seed) if options.fast else config,
        SHARES,
        options.work / f"seed-{options.seed}{'-fast' if options.fast else ''}",
    )
    if not options.fast:
        file = Path("results/robustness") / f"seed-{options.seed}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(results, indent=1) + "\n")
    for row in results["shares"]:
        damage = ", ".join(f"{mode} {value:+.3f}" for mode, value in row["damage"].items())
        print(
            f"share {row['placebo_share']:g}: validation off {row['validation_off']:.3f}, repeated own "
            f"{row['repeated_own']:.3f}, off {row['repeated_off']:.3f}; damage to unseen stories: {damage}"
        )


if __name__ == "__main__":
    main()
