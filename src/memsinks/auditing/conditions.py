"""The models of an audit: one run under several conditions, and others beside it."""

import copy
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from memsinks.checkpoint.export import fold
from memsinks.checkpoint.run import load
from memsinks.errors import InputError
from memsinks.sinks.attach import sinks_of
from memsinks.sinks.files import METADATA
from memsinks.sinks.modes import Mode, ModeKind
from memsinks.sinks.removal import remove
from memsinks.sinks.routing import fixed_rows

OWN, STANDARD, REFERENCE, REMOVED = "own", "standard", "reference", "removed"
"""Names of other models that have a meaning: the run before the removal; trained on the same text without sinks; never
trained on the target, or trained again without it; the run after a removal."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A model in one state.

    Attributes:
        name: short; of figures.
        says: in a sentence, for people.
        folder: that it is loaded from.
        mode: which sinks are on; None for a model without sinks.
        without: IDs whose sinks are removed after loading.
        random_rows: remove as many rows as those of these IDs, chosen at random, after loading.
    """

    name: str
    says: str
    folder: Path
    mode: ModeKind | None
    without: tuple[int, ...] = ()
    random_rows: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Opened:
    """A model under a condition, in memory; measurements leave it as it was.

    Attributes:
        condition: of it.
        model: to be measured in ``mode``.
        mode: see :attr:`Condition.mode`.
        target_ids: sequence IDs of the target.
    """

    condition: Condition
    model: Any
    mode: ModeKind | None
    target_ids: tuple[int, ...]

    def mode_for(self, texts: str) -> ModeKind | None:
        """The mode that a set of texts is measured in.

        Text that was never trained has no sinks of its own: under hashed pools its ID selects those of others, which
        harm it, and which nobody would switch on for it. So where trained text has its own sinks on, other text has
        none; for the reference the target is such other text.
        """
        trained = texts.startswith("survivor") or (texts == "target" and self.condition.name != REFERENCE)
        return self.mode if trained or self.mode != "own" else "off"

    def plain(self) -> Any:
        """A stock model of its own that may be trained, quantised or cut: what an attacker holds.

        With sinks off or removed, the shared part; with own sinks, those of the whole target are folded in, since a
        stock model has no sequence IDs.
        """
        if self.mode is None:
            return copy.deepcopy(self.model)
        if self.mode_for("target") == "own":
            return fold(self.model, Mode("chosen", self.target_ids))
        return fold(self.model, "off" if self.mode == "own" else self.mode)


def conditions_of(
    folder: Path, target_ids: tuple[int, ...], gone: bool, against: Mapping[str, Path]
) -> dict[str, Condition]:
    """Conditions by name, in the order of tables.

    Args:
        folder: of the run.
        target_ids: of the target.
        gone: the target was removed from the run before.
        against: other models by name; one with sinks is measured with its own on, the others as they are.

    Raises:
        InputError: a folder is not there or holds no model, or a name is taken, or is none.
    """
    found = _of_run(folder, target_ids, gone, REMOVED in against)
    taken = {condition.name for condition in found}
    says = {
        OWN: "the run before the removal, with the text's own sinks on",
        STANDARD: "ordinary training on the same text, without sinks",
        REFERENCE: "a model that was never trained on the text",
        REMOVED: "the run after the removal",
    }
    for name, other in against.items():
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise InputError(f"--against {name}={other}: a name has letters, digits, - and _ only; choose another")
        if name in taken:
            raise InputError(f"--against {name}={other}: this audit has a condition of that name; choose another")
        if not (other / "config.json").is_file():
            raise InputError(f"--against {name}={other}: no model is there; give a folder with config.json")
        mode: ModeKind | None = "own" if (other / METADATA).is_file() else None
        found.append(Condition(name=name, says=says.get(name, f"another model, {other.name}"), folder=other, mode=mode))
    return {condition.name: condition for condition in found}


def _of_run(folder: Path, target_ids: tuple[int, ...], gone: bool, removed_elsewhere: bool) -> list[Condition]:
    if not (folder / METADATA).is_file():
        return [Condition(name="model", says="the model that is audited", folder=folder, mode=None)]

    def of(name: str, says: str, mode: ModeKind, **rest: Any) -> Condition:
        return Condition(name=name, says=says, folder=folder, mode=mode, **rest)

    own = of("own", "the run with the text's own sinks on, as in training", "own")
    shared = [
        of("off", "the run with all sinks off, as any ordinary loader reads it", "off"),
        of("placebo", "control: the run with the sinks of an unrelated ID on", "placebo"),
    ]
    if gone:
        return [of(REMOVED, "the run, from which the text was removed", "own"), *shared]
    random = "control: own sinks on, after as many rows as the text has were removed at random"
    found = [own, *shared, of("random", random, "own", random_rows=target_ids)]
    if not removed_elsewhere:
        found.append(of(REMOVED, "the run after the text's sinks were removed, in memory", "own", without=target_ids))
    return found


def least_context(conditions: Iterable[Condition]) -> float:
    """Tokens that each of the models sees at once; infinite where none has such a bound.

    Raises:
        InputError: a folder does not say which model it holds.
    """
    found = math.inf
    for folder in {condition.folder for condition in conditions}:
        try:
            config = AutoConfig.from_pretrained(folder)
        except (OSError, ValueError) as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(f"{folder}: cannot be read as a model ({first}); give a folder of a whole one") from error
        found = min(found, getattr(config, "max_position_embeddings", None) or math.inf)
    return found


def opened(condition: Condition, target_ids: tuple[int, ...], *, seed: int) -> Opened:
    """Load a model and bring it into the state of a condition.

    Args:
        condition: of the model.
        target_ids: of the target.
        seed: of rows chosen at random.

    Raises:
        CheckpointError, InputError: the model cannot be loaded.
    """
    if condition.mode is None:
        try:
            model: Any = AutoModelForCausalLM.from_pretrained(condition.folder).eval()
        except (OSError, ValueError) as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(f"{condition.name}: the model cannot be loaded ({first}); give a whole one") from error
    else:
        model = load(condition.folder)
    if condition.without:
        remove(model, condition.without)
    if condition.random_rows:
        _drop_random_rows(model, condition.random_rows, seed)
    if torch.cuda.is_available():
        model.to("cuda")
    return Opened(condition, model, condition.mode, target_ids)


def _drop_random_rows(model: Any, ids: tuple[int, ...], seed: int) -> None:
    """Zero as many rows in each layer as ``ids`` select, chosen at random among all: in output the same as removal."""
    layers = list(sinks_of(model))
    count, device = model.config.num_hidden_layers, layers[0].up.device
    rows, _ = fixed_rows(Mode("chosen", ids), model.sink_config, count, device, model.sink_allocation)
    random = np.random.default_rng(seed)
    with torch.no_grad():
        for sinks, own in zip(layers, rows, strict=True):
            drawn = torch.from_numpy(random.choice(len(sinks.up), size=len(own), replace=False))
            for parameter in sinks.parameters(recurse=False):
                parameter[drawn] = 0
