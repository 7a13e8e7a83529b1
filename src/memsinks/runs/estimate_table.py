"""An estimate, for a person to read."""

from rich.console import Group, RenderableType
from rich.table import Table

from memsinks.runs.estimate import Estimate

_SCALES = ((1e24, "septillion"), (1e21, "sextillion"), (1e18, "quintillion"), (1e15, "quadrillion"), (1e12, "trillion"))
_SMALLER = ((1e9, "billion"), (1e6, "million"), (1e3, "thousand"))


def render(estimate: Estimate) -> RenderableType:
    """Tables of parameters, work, memory by part, traffic and disk."""
    e, g = estimate, estimate.geometry
    work = _table("Work")
    work.add_row("parameters, shared", in_words(e.parameters.shared))
    work.add_row("parameters, sinks", in_words(e.parameters.sinks))
    work.add_row("parameters, active for a token", in_words(e.parameters.active))
    for name, value in (
        ("layers", e.flops.layers),
        ("attention scores", e.flops.scores),
        ("sinks", e.flops.sinks),
        ("output layer", e.flops.output),
    ):
        work.add_row(f"FLOPs a token, forward: {name}", in_words(value))
    work.add_row("FLOPs a token, forward", in_words(e.flops.forward))
    work.add_row("FLOPs a token, backward", in_words(e.flops.backward))
    work.add_row("FLOPs a token, recomputed", in_words(e.flops.recomputed))
    work.add_row("tokens", in_words(e.tokens))
    work.add_row("FLOPs of the run", in_words(e.total_flops))
    work.add_row("expected time", _time(e))

    memory = _table(f"Memory of one of {g.devices} devices" if g.devices > 1 else "Memory")
    m = e.memory
    for name, value in (
        ("weights", m.weights),
        ("AdamW moments", m.moments),
        ("gradients, shared", m.gradients_shared),
        ("gradients, sinks", m.gradients_sinks),
        ("gathered weights" if g.strategy == "fsdp2" else "bf16 copies of weights", m.weight_copies),
        ("gradient buckets", m.buckets),
        ("activations" + (", checkpoints only" if g.gradient_checkpointing else ""), m.activations),
        ("one layer, made again", m.one_layer if g.gradient_checkpointing else 0.0),
        ("active sinks", m.sinks),
        ("output layer and loss", m.logits),
        ("temporaries of the optimiser", m.optimizer),
    ):
        if value:
            memory.add_row(name, _gb(value))
    memory.add_section()
    memory.add_row("peak (parts do not all live at once)", _gb(m.peak), style="bold")

    rest = _table("Traffic and disk")
    if g.devices > 1:
        rest.add_row("sent by a device in a step, shared weights", _gb(e.traffic.shared))
        rest.add_row("sent by a device in a step, sinks", _gb(e.traffic.sinks))
    if e.parameters.sinks:
        rest.add_row("sinks of a layer that a step changes", f"{e.touched_rows:,.0f}")
    rest.add_row("a checkpoint to resume from", _gb(e.checkpoint))
    return Group(work, memory, rest)


def in_words(value: float) -> str:
    """A large number as people say it: ``1.71 billion``."""
    for scale, word in (*_SCALES, *_SMALLER):
        if value >= scale:
            return f"{value / scale:.3g} {word}" if value < 1000 * scale else f"{value / scale:,.0f} {word}"
    return f"{value:.3g}"


def _table(title: str) -> Table:
    table = Table("", "", title=title, show_header=False, title_justify="left", title_style="bold")
    table.columns[1].justify = "right"
    return table


def _gb(value: float) -> str:
    return f"{value / 1e9:,.2f} GB" if value >= 1e7 else f"{value / 1e9:.2g} GB"


def _time(e: Estimate) -> str:
    if e.seconds is None or e.peak_flops is None or e.utilisation is None:
        return "unknown (no peak rate of this device)"
    hours = e.seconds / 3600
    span = (
        f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} hours" if hours >= 2 else f"{hours * 60:.1f} minutes"
    )
    return f"{span}, if {e.utilisation:.0%} of {e.peak_flops / 1e12:.3g} TFLOP/s is reached"
