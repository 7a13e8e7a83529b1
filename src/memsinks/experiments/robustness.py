"""Does training some ungoverned text with frozen sinks on protect other text from sinks that are on?

The quickstart's sinks arm, trained with several shares of such text. Measured: the damage that sinks do to stories
never seen, and what the share costs: the loss with sinks off, and the memory held with sinks on.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from memsinks.audit import bootstrap, damage
from memsinks.experiments.measured import Measured
from memsinks.experiments.quickstart import QuickstartConfig, claim, quickstart_arms, quickstart_lab

MODES = ("placebo", "chosen_one", "chosen_all")


def robustness(
    config: QuickstartConfig, shares: Sequence[float], output: Path, *, progress: bool = True
) -> dict[str, Any]:
    """Train and measure the sinks arm at each share; shares that an earlier call finished are read back.

    Args:
        config: sizes; as the quickstart's.
        shares: of ungoverned passes that train with frozen sinks on, each in [0, 1].
        output: a new directory, or that of an earlier call.
        progress: show progress bars.

    Returns:
        For each share: losses in nats per token with 95 % bootstrap intervals over stories, extraction, and the damage
        to stories never seen.

    Raises:
        InputError: ``output`` holds something else, or cannot be written.
    """
    claim(output)
    lab = quickstart_lab(config, output, progress=progress)
    arm = next(arm for arm in quickstart_arms(config) if arm.modes)
    rows = []
    for share in shares:
        settings = {**arm.settings, "exposures.placebo_share": share}
        measured = lab.measured(replace(arm, name=f"sinks_{share:g}", settings=settings))
        rows.append({"placebo_share": share, **_figures(measured)})
    results = {"seed": config.seed, "config": asdict(config), "shares": rows}
    (output / "robustness.json").write_text(json.dumps(results, indent=1) + "\n")
    return results


def _figures(measured: Measured) -> dict[str, Any]:
    validation, off = {m: measured.losses("validation", m) for m in (*MODES, "off")}, "off"
    repeated = {m: measured.losses("repeated", m) for m in ("own", "off")}

    def interval(losses: Any) -> list[float]:
        return [float(bound) for bound in bootstrap(lambda mean: mean, losses).bounds]

    return {
        "steps": measured.data["steps"],
        "seconds": measured.data["seconds"],
        "validation_off": validation[off].mean,
        "validation_off_interval": interval(validation[off]),
        "repeated_own": repeated["own"].mean,
        "repeated_own_interval": interval(repeated["own"]),
        "repeated_off": repeated["off"].mean,
        "repeated_off_interval": interval(repeated["off"]),
        "extraction": {mode: entry["rate"] for mode, entry in measured.data["extraction"].items()},
        "damage": {mode: damage(validation[mode], validation[off]) for mode in MODES},
    }
