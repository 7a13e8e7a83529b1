"""Stock checkpoints from a model with sinks: sinks off, or a fixed set of sinks folded in.

An MLP's output is a sum over hidden units, so a fixed set of sinks becomes further hidden units of a wider plain MLP.
Layers may need different numbers of units, and those without sinks need none; every layer is padded with zero units to
the widest. The folded model equals the model in that mode to rounding (the order of the sum differs); sinks off is the
plain checkpoint, bit for bit.
"""

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from memsinks.checkpoint.card import CARD, CardFacts, run_facts, write_card
from memsinks.checkpoint.run import staged
from memsinks.errors import ConfigError
from memsinks.ids import format_id
from memsinks.sinks.attach import SinkModel, detach, sinks_of
from memsinks.sinks.attenuation import Attenuation, attenuated_down
from memsinks.sinks.config import mlp_width
from memsinks.sinks.families import Site, family_of, sites
from memsinks.sinks.files import read_metadata
from memsinks.sinks.modes import OFF, OWN, Mode, ModeLike, as_mode
from memsinks.sinks.routing import fixed_rows

RECORD = "memsinks-export.json"


def fold(model: Any, mode: ModeLike, *, attenuate: Sequence[Attenuation] = ()) -> Any:
    """A plain model that computes what ``model`` computes in a fixed mode.

    Args:
        model: with sinks; it is not changed.
        mode: off, chosen, placebo or all; ``own`` depends on the input and cannot be folded.
        attenuate: scales the output rows of these IDs' sinks, which the mode has to name. That is no removal: their
            other rows are in the model as they are.

    Returns:
        A stock model of the same family, in the same dtype, in evaluation mode.

    Raises:
        ConfigError: the model has no sinks, the mode is ``own``, or an ID to attenuate is not folded in.
    """
    mode = as_mode(mode)
    if not isinstance(model, SinkModel):
        raise ConfigError("this model has no sinks to fold")
    if mode == OWN:
        raise ConfigError("mode 'own' depends on each sequence's ID; fold 'off', or the sinks of chosen IDs")
    check_attenuated(mode, attenuate)
    plain = detach(copy.deepcopy(model))
    if mode == OFF:
        return plain.eval()
    layers = list(sinks_of(model))
    count, device = plain.config.num_hidden_layers, layers[0].up.device
    rows, scale = fixed_rows(mode, model.sink_config, count, device, model.sink_allocation)
    family = family_of(plain.config)
    extra = max(len(r) for r in rows)
    if not extra:
        return plain.eval()
    config = copy.deepcopy(plain.config)
    setattr(config, family.width, mlp_width(plain.config) + extra)
    downs = attenuated_down(model, attenuate)
    state = plain.state_dict()
    prefixes = {module: name for name, module in plain.named_modules()}
    own = {sinks.layer_index: (sinks, chosen) for sinks, chosen in zip(layers, rows, strict=True)}
    for number, site in enumerate(sites(plain)):
        sinks, chosen = own.get(number, (layers[0], rows[0][:0]))
        units = {name: p.detach()[chosen] for name, p in sinks.named_parameters(recurse=False)}
        units["down"] = downs[sinks.place][chosen] * scale
        for key, value in _widened(site, units, extra, family.transposed).items():
            projection, _, tensor = key.partition(".")
            state[f"{prefixes[getattr(site, projection)]}.{tensor}"] = value
    folded = AutoModelForCausalLM.from_config(config, dtype=plain.dtype)
    folded.load_state_dict(state)
    folded.generation_config = copy.deepcopy(plain.generation_config)
    return folded.to(plain.device).eval()


def export(
    model: Any,
    directory: str | Path,
    *,
    mode: ModeLike = OFF,
    attenuate: Sequence[Attenuation] = (),
    tokenizer: PreTrainedTokenizerBase | None = None,
    origin: str | Path | None = None,
    sources: Sequence[str] | None = None,
) -> None:
    """Write :func:`fold`'s model as a stock checkpoint that needs no memsinks, with a model card.

    ``memsinks-export.json`` beside it says which sinks are in it, so that a removal finds it.

    Args:
        model: with sinks.
        directory: created, or its files of the same names replaced, but for a ``README.md`` that is not ours.
        mode: see :func:`fold`.
        attenuate: see :func:`fold`.
        tokenizer: saved along, if given.
        origin: the folder that the model was loaded from; the export then says which sinks it was made of, and its card
            what they were trained on.
        sources: names of sources for the card.

    Raises:
        ConfigError: see :func:`fold`.
        CheckpointError: a file of the origin cannot be read.
        InputError: the directory cannot be written; nothing is left behind.
    """
    plain = fold(model, mode, attenuate=attenuate)
    mode = as_mode(mode)
    record = export_record(mode, attenuate)
    known: dict[str, Any] = {}
    if origin is not None:
        record["sinks_sha256"] = read_metadata(Path(origin))[0]["tensors"]["sha256"]
        known = run_facts(Path(origin))
    facts = CardFacts(
        config=model.sink_config,
        table=model.sink_allocation,
        sources=sources,
        folded=(mode.kind, len(mode.ids)),
        attenuated=tuple((len(own.ids), own.factor) for own in attenuate),
        **known,
    )
    with staged(Path(directory)) as staging:
        plain.save_pretrained(staging)
        if tokenizer is not None:
            tokenizer.save_pretrained(staging)
        write_card(staging, facts, instead_of=Path(directory) / CARD)
        (staging / RECORD).write_text(json.dumps(record, indent=1) + "\n")


def export_record(mode: Mode, attenuate: Sequence[Attenuation] = ()) -> dict[str, Any]:
    """What is written beside an export: which sinks are in it, and which of them are scaled."""
    record: dict[str, Any] = {
        "format": "memsinks-export",
        "format_version": 1,
        "mode": mode.kind,
        "ids": [format_id(i) for i in mode.ids],
    }
    if attenuate:
        record["attenuated"] = [{"factor": own.factor, "ids": [format_id(i) for i in own.ids]} for own in attenuate]
    return record


def check_attenuated(mode: Mode, attenuate: Sequence[Attenuation]) -> None:
    """Refuse to attenuate what is not folded in.

    Raises:
        ConfigError: an ID is not among those of the mode.
    """
    for own in attenuate:
        missing = () if mode.kind == "all" else [i for i in own.ids if i not in mode.ids]
        if missing:
            whose = f" of {own.name!r}" if own.name else ""
            raise ConfigError(
                f"the sinks of ID {format_id(missing[0])}{whose} are to be attenuated, and mode {mode.kind!r} does not "
                "fold them in; fold them in, or leave them out"
            )


def _widened(site: Site, units: dict[str, Tensor], extra: int, transposed: bool) -> dict[str, Tensor]:
    """Weights and biases of the projections with ``units`` appended, padded to ``extra`` hidden units."""

    def append(weight: Tensor, rows: Tensor, dim: int) -> Tensor:
        padded = rows.new_zeros(extra, rows.shape[1])
        padded[: len(rows)] = rows
        return torch.cat([weight, (padded if dim == 0 else padded.T).to(weight.dtype)], dim)

    hidden_dim = 1 if transposed else 0
    widened = {
        "up.weight": append(site.up.weight, units["up"], hidden_dim),
        "down.weight": append(site.down.weight, units["down"], 1 - hidden_dim),
    }
    if site.gate is not None:
        widened["gate.weight"] = append(site.gate.weight, units["gate"], hidden_dim)
    for name in ("up", "gate"):
        if f"{name}_bias" in units:
            bias = getattr(site, name).bias
            widened[f"{name}.bias"] = append(bias[:, None], units[f"{name}_bias"], 0)[:, 0]
    return widened
