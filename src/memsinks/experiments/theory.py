"""Experiment 11: a linear model with generalising and memorising features, in closed form and simulated.

A text is a vector of generalising features g (p of them, active in all text) and memorising ones m (active in one
text); the model predicts w.x and learns by gradient flow on half the squared error. Typical text: g ~ N(0, I), with the
target v.g. A repeated text (g0, m0) has the target v.g0 + e: what is particular to it is e. Its *overlap* is
|g0|^2 / (|g0|^2 + |m0|^2): near 0 for a canary, larger for natural text.

1. *From zero.* Flow on the repeated text alone tends to the solution of least norm, y0 x0 / |x0|^2. The overlap is the
   share of the memory that stands in generalising weights; removing the memorising ones leaves that much, and the rest
   of the weights is shifted for all text.
2. *Among typical text*, whose gradient pulls generalising weights back at rate mu while exposures, at rate rho, push
   them: the part a of e that they hold, and the part s that sinks hold, with learning rate kappa, follow

       a' = rho |g0|^2 (e - a - s) - mu a        s' = rho kappa |s0|^2 (e - a - s)

   Without sinks a settles at e rho |g0|^2 / (rho |g0|^2 + mu); with them at 0, and s at e: nothing pulls sinks back.
3. *Forced localisation.* A block reads h = C g + noise, is on for all text, and learns from repeated texts only, the
   other weights from typical text only. They learn to predict beside the block, so removing it leaves the error
   |C' w_b|^2 / 2, which grows with the block's weights (co-adaptation); before that the block's noise is the harm.

This is a linear model and no transformer: features are given, not learned, and each text has its own.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.linalg import expm

from memsinks.experiments.catalogue import Experiment, Outcome, Scale, Table, cell, points
from memsinks.experiments.results import Row
from memsinks.report.plots import Panel, Series

OVERLAPS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
TIMES = 25


@dataclass(frozen=True, kw_only=True)
class TheorySetting:
    """Sizes of the simulation.

    Attributes:
        generalising, memorising, sinks, block: features of each kind.
        repeated: texts that train the block.
        mu, rho: rates of typical and repeated text.
        kappa: learning rate of sinks over that of other weights.
        duration: of the flow.
        step: of the simulation.
        samples: typical texts in each simulated step.
    """

    generalising: int = 40
    memorising: int = 40
    sinks: int = 10
    block: int = 12
    repeated: int = 4
    mu: float = 1.0
    rho: float = 0.3
    kappa: float = 5.0
    duration: float = 10.0
    step: float = 0.002
    samples: int = 16


@dataclass(frozen=True)
class Draw:
    """The random numbers of a seed."""

    setting: TheorySetting
    seed: int

    @property
    def random(self) -> np.random.Generator:
        """A generator that begins anew."""
        return np.random.default_rng([self.seed, 11])


def _draw(setting: TheorySetting, seed: int, folder: Path, *, progress: bool) -> Draw:
    del folder, progress
    return Draw(setting, seed)


def run(draw: Draw) -> list[Row]:
    """Closed form (mode ``closed``) and simulation (mode ``simulated``) of the three parts."""
    return [*from_zero(draw), *among_typical_text(draw), *forced_localisation(draw)]


def from_zero(draw: Draw) -> list[Row]:
    """Part 1, over the overlap: what removal leaves, and how far other text is shifted."""
    setting, random = draw.setting, draw.random
    rows = []
    target = 1.0
    for overlap in OVERLAPS:
        g = _of_square(random.normal(size=setting.generalising), overlap)
        x = np.concatenate([g, _of_square(random.normal(size=setting.memorising), 1 - overlap)])
        w = np.zeros_like(x)
        # |x|^2 is 1, so after a time of 20 all but e^-20 is learned.
        for _ in range(round(20 / setting.step)):
            w += setting.step * (target - w @ x) * x
        shared = w[: setting.generalising]
        for mode, left, shift in (
            ("closed", overlap, overlap),
            ("simulated", shared @ g / target, float(shared @ shared)),
        ):
            rows.append(Row(arm="from_zero", measure="left_after_removal", mode=mode, x=overlap, value=float(left)))
            rows.append(Row(arm="from_zero", measure="shift_of_other_text", mode=mode, x=overlap, value=float(shift)))
    return rows


def among_typical_text(draw: Draw) -> list[Row]:
    """Part 2, over time: the share of what is particular that shared weights hold, without and with sinks."""
    setting = draw.setting
    rows = []
    for arm, kappa in (("without_sinks", 0.0), ("with_sinks", setting.kappa)):
        push = setting.rho
        flow = np.array([[-push - setting.mu, -push], [-push * kappa, -push * kappa]])
        force = np.array([push, push * kappa])
        simulated = _simulate_exposures(draw, kappa)
        for index, time in enumerate(np.linspace(0, setting.duration, TIMES)):
            a, s = _affine_flow(flow, force, np.zeros(2), time)
            for mode, (shared, sinks) in (("closed", (a, s)), ("simulated", simulated[index])):
                rows.append(Row(arm=arm, measure="held_by_shared", mode=mode, x=float(time), value=float(shared)))
                rows.append(Row(arm=arm, measure="held_by_sinks", mode=mode, x=float(time), value=float(sinks)))
    return rows


def forced_localisation(draw: Draw) -> list[Row]:
    """Part 3, over time: error on typical text before and after the block is removed."""
    setting, random = draw.setting, draw.random
    p, b = setting.generalising, setting.block
    C = random.normal(size=(b, p)) / p**0.5
    noise = 0.3
    truth = random.normal(size=p) / p**0.5
    g = random.normal(size=(setting.repeated, p))
    h = g @ C.T + noise * random.normal(size=(setting.repeated, b))
    y = g @ truth + 1.0
    # d/dt of (w_g, w_b), population over typical text.
    flow = np.block([[-setting.mu * np.eye(p), -setting.mu * C.T], [-setting.rho * h.T @ g, -setting.rho * h.T @ h]])
    force = np.concatenate([setting.mu * truth, setting.rho * h.T @ y])
    w = np.zeros(p + b)
    steps = round(setting.duration / setting.step)
    marks = {round(i * steps / (TIMES - 1)): i for i in range(TIMES)}
    rows = []
    for step in range(steps + 1):
        if step in marks:
            time = step * setting.step
            for mode, weights in (("closed", _affine_flow(flow, force, np.zeros(p + b), time)), ("simulated", w)):
                shared, block = weights[:p], weights[p:]
                error = shared + C.T @ block - truth
                before = 0.5 * float(error @ error + noise**2 * block @ block)
                after = 0.5 * float((shared - truth) @ (shared - truth))
                rows.append(Row(arm="masking", measure="before_removal", mode=mode, x=time, value=before))
                rows.append(Row(arm="masking", measure="after_removal", mode=mode, x=time, value=after))
        typical = random.normal(size=(setting.samples, p))
        seen = typical @ C.T + noise * random.normal(size=(setting.samples, b))
        residual = typical @ truth - typical @ w[:p] - seen @ w[p:]
        missing = y - g @ w[:p] - h @ w[p:]
        w[:p] += setting.step * setting.mu * typical.T @ residual / setting.samples
        w[p:] += setting.step * setting.rho * h.T @ missing
    return rows


def _simulate_exposures(draw: Draw, kappa: float) -> np.ndarray:
    """Part 2 by stochastic gradient descent: shares of e held by shared weights and by sinks, ``[TIMES, 2]``."""
    setting, random = draw.setting, draw.random
    p = setting.generalising
    truth = random.normal(size=p)
    g, s = _of_square(random.normal(size=p), 1.0), _of_square(random.normal(size=setting.sinks), 1.0)
    w, sinks = truth.copy(), np.zeros(setting.sinks)
    steps = round(setting.duration / setting.step)
    marks = {round(i * steps / (TIMES - 1)): i for i in range(TIMES)}
    found = np.empty((TIMES, 2))
    for step in range(steps + 1):
        if step in marks:
            found[marks[step]] = (w - truth) @ g, sinks @ s
        missing = truth @ g + 1.0 - w @ g - sinks @ s
        typical = random.normal(size=(setting.samples, p))
        w += setting.step * setting.mu * typical.T @ (typical @ (truth - w)) / setting.samples
        w += setting.step * setting.rho * missing * g
        sinks += setting.step * setting.rho * kappa * missing * s
    return found


def _affine_flow(flow: np.ndarray, force: np.ndarray, start: np.ndarray, time: float) -> np.ndarray:
    """The solution at ``time`` of x' = flow x + force."""
    size = len(start)
    # One exponential of the system with a constant coordinate, which needs no inverse.
    whole = np.zeros((size + 1, size + 1))
    whole[:size, :size], whole[:size, size] = flow, force
    return (expm(whole * time) @ np.append(start, 1.0))[:size]


def _of_square(vector: np.ndarray, square: float) -> np.ndarray:
    """The vector, with a squared length of ``square``."""
    return vector * (square / (vector @ vector)) ** 0.5


def _tables(outcome: Outcome) -> list[Table]:
    body = [
        [f"{x:g}", cell(closed), cell(outcome.get("from_zero", "left_after_removal", "simulated", x))]
        for x, closed in outcome.sweep("from_zero", "left_after_removal", "closed")
    ]
    end = []
    for arm, measure, label in (
        ("without_sinks", "held_by_shared", "without sinks: held by shared weights"),
        ("with_sinks", "held_by_shared", "with sinks: held by shared weights"),
        ("with_sinks", "held_by_sinks", "with sinks: held by sinks"),
        ("masking", "before_removal", "gradient masking: error before removal"),
        ("masking", "after_removal", "gradient masking: error after removal"),
    ):
        closed, simulated = (outcome.sweep(arm, measure, mode)[-1][1] for mode in ("closed", "simulated"))
        end.append([label, cell(closed), cell(simulated)])
    header = ["", "closed form", "simulation"]
    return [
        Table("What removing the memorising weights leaves of a repeated text, by overlap", header, body),
        Table(
            "At the end of the flow", header, end, "Shares of what is particular to the text; errors on typical text."
        ),
    ]


def _figures(outcome: Outcome) -> dict[str, list[Panel]]:
    def pair(arm: str, measure: str, label: str) -> list[Series]:
        closed, simulated = points(outcome, arm, measure, "closed"), points(outcome, arm, measure, "simulated")
        return [
            Series(label=f"{label}, closed form", group=label, x=closed["x"], y=closed["y"]),
            Series(label=f"{label}, simulated", group=label, x=simulated["x"], y=simulated["y"], joined=False),
        ]

    return {
        "theory": [
            Panel(
                title="From zero, one repeated text",
                x_label="overlap with generalising features",
                y_label="share left after removal",
                series=pair("from_zero", "left_after_removal", "memory left"),
            ),
            Panel(
                title="Among typical text",
                x_label="time",
                y_label="share of what is particular",
                series=[
                    *pair("without_sinks", "held_by_shared", "shared, without sinks"),
                    *pair("with_sinks", "held_by_shared", "shared, with sinks"),
                    *pair("with_sinks", "held_by_sinks", "sinks"),
                ],
            ),
            Panel(
                title="Gradient masking",
                x_label="time",
                y_label="error on typical text",
                series=[
                    *pair("masking", "before_removal", "before removal"),
                    *pair("masking", "after_removal", "after removal"),
                ],
            ),
        ]
    }


_SETTINGS: dict[Scale, TheorySetting] = {
    "smoke": TheorySetting(step=0.02, duration=4.0),
    "mini": TheorySetting(),
    "cpu": TheorySetting(generalising=200, memorising=200, block=40, samples=32),
}

THEORY = Experiment(
    name="theory",
    title="A linear model with generalising and memorising features: closed form and simulation",
    claim="Repeated natural text shifts generalising weights, canaries do not; sinks take over what is particular; "
    "masked gradients co-adapt (section 4 and appendix).",
    supports="That these effects follow from gradient flow in a linear model, and that the simulation agrees.",
    not_shown="Anything about transformers: features are given, and each text has its own.",
    settings=_SETTINGS,
    text="theory",
    arms=0,
    run=run,
    tables=_tables,
    figures=_figures,
    prepare=_draw,
)
