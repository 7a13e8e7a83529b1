"""What a sink pool looks like, independent of the model that carries it."""

import copy
import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self, get_args

from memsinks.errors import ConfigError
from memsinks.sinks.families import width_key

Kernel = Literal["gathered", "dense"]
Init = Literal["auto", "noop", "random"]
Allocation = Literal["hashed", "disjoint", "hybrid"]
Mask = Literal["per_layer", "shared"]


@dataclass(frozen=True, kw_only=True)
class SinkConfig:
    """A pool of sinks for the MLPs of a model.

    Attributes:
        pool: sinks per layer; a float is a fraction of the model's own MLP width.
        active: sinks that one sequence ID switches on in a layer; a float is a fraction of the pool.
        seed: seeds which rows an ID selects, and the sinks' initial values.
        block: rows are selected in runs of this many neighbours; ``pool`` and ``active`` are multiples of it.
        init: ``random`` draws sinks like the model's own weights, ``noop`` starts with zero output rows so that
            nothing changes, ``auto`` is ``noop`` if the model's configuration names a checkpoint (``from_pretrained``
            sets that) and ``random`` otherwise.
        kernel: ``gathered`` computes only active rows; ``dense`` computes the pool and masks it (the oracle).
        allocation: ``hashed`` lets every ID choose from a shared pool, so that choices overlap; under ``disjoint``
            each registered ID owns ``active`` rows and other IDs have no sinks; under ``hybrid`` registered IDs own
            rows and all others choose from the shared part. See :func:`memsinks.register`.
        owned: rows at the end of the pool that are kept for owners, a multiple of ``active``; a float is a fraction
            of the pool. Given for ``hybrid``; none for ``hashed`` and the whole pool for ``disjoint``.
        layers: numbers of the decoder layers that have sinks, from 0; none stands for all. Which rows an ID selects in
            a layer, and their initial values, depend on the layer's number and not on the other layers with sinks.
        mask: ``per_layer`` hashes an ID to other rows in each layer, ``shared`` to the same rows in all of them, as
            the published code does. What an owner owns is the same in every layer either way.

    Raises:
        ConfigError: a value is out of range, ``active`` exceeds ``pool``, or ``owned`` or ``mask`` does not fit the
            allocation.
    """

    pool: int | float
    active: int | float
    seed: int = 0
    block: int = 1
    init: Init = "auto"
    kernel: Kernel = "gathered"
    allocation: Allocation = "hashed"
    owned: int | float = 0
    layers: tuple[int, ...] = ()
    mask: Mask = "per_layer"

    def __post_init__(self) -> None:
        for name in ("pool", "active"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0 or value == math.inf:
                raise ConfigError(f"{name} must be a positive count or a positive fraction, not {value!r}")
        if isinstance(self.active, float) and self.active > 1:
            raise ConfigError(f"active={self.active} is a fraction of the pool and must be at most 1.0")
        if isinstance(self.block, bool) or not isinstance(self.block, int) or self.block < 1:
            raise ConfigError(f"block must be a positive integer, not {self.block!r}")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed must be an integer in [0, 2**63), not {self.seed!r}")
        for name, kinds in (("init", Init), ("kernel", Kernel), ("allocation", Allocation), ("mask", Mask)):
            if getattr(self, name) not in get_args(kinds):
                raise ConfigError(f"{name} must be one of {', '.join(get_args(kinds))}, not {getattr(self, name)!r}")
        if isinstance(self.pool, int):
            for name in ("pool", "active"):
                value = getattr(self, name)
                if isinstance(value, int) and value % self.block:
                    raise ConfigError(f"{name}={value} is not a multiple of block={self.block}")
            if isinstance(self.active, int) and self.active > self.pool:
                raise ConfigError(f"a pool of {self.pool} sinks is smaller than active={self.active}")
        self._check_owned()
        if self.allocation == "disjoint" and self.mask == "shared":
            raise ConfigError("mask is about hashing, and under allocation='disjoint' no ID is hashed; leave it out")
        check_layers("layers", self.layers)
        # JSON has lists only.
        object.__setattr__(self, "layers", tuple(self.layers))

    def _check_owned(self) -> None:
        owned, pool, active = self.owned, self.pool, self.active
        if isinstance(owned, bool) or not isinstance(owned, int | float) or not 0 <= owned < math.inf:
            raise ConfigError(f"owned must be a count of rows or a fraction of the pool, not {owned!r}")
        if self.allocation == "hashed" and owned:
            raise ConfigError(f"owned={owned} rows need owners; choose allocation='hybrid', or leave owned out")
        if self.allocation == "hybrid" and (not owned or (isinstance(owned, float) and owned >= 1)):
            raise ConfigError(f"allocation='hybrid' needs owned, a part of the pool, not {owned!r}")
        if self.allocation == "disjoint" and owned not in (0, pool) and owned != 1.0:
            raise ConfigError(f"under allocation='disjoint' the whole pool is owned; leave owned={owned} out")
        if self.allocation == "hashed" or not (isinstance(pool, int) and isinstance(active, int)):
            return
        rows = owned if self.allocation == "hybrid" else pool
        if isinstance(rows, int) and rows % active:
            raise ConfigError(
                f"{rows} owned rows are not a multiple of active={active}, the rows of one owner; make it "
                f"{_round_to(rows, active)}"
            )
        if self.allocation == "hybrid" and isinstance(owned, int) and pool - owned < active:
            raise ConfigError(f"owned={owned} of {pool} rows leaves less than active={active} to share")

    @classmethod
    def partition(
        cls, model_config: Any, *, shared: float = 0.7, active: float = 0.3, **options: Any
    ) -> tuple[Any, Self]:
        """The paper's split: ``shared`` of the MLP width stays shared, the rest becomes the pool.

        Args:
            model_config: a transformers configuration; it is copied, not changed.
            shared: fraction of the MLP width that stays shared.
            active: fraction of the pool that one sequence ID switches on.
            options: other fields of :class:`SinkConfig`, without ``layers``: the split narrows every layer's MLP.

        Returns:
            The configuration at the shared width, and the sinks' configuration with counts.

        Raises:
            ConfigError: a fraction is out of range or leaves nothing on one side, or ``layers`` is given.
        """
        if options.get("layers"):
            raise ConfigError("the split narrows the MLP of every layer, so every layer needs sinks; leave layers out")
        if not 0 < shared < 1:
            raise ConfigError(f"shared must be a fraction between 0 and 1, not {shared!r}")
        key = width_key(model_config)
        width = mlp_width(model_config)
        narrow = copy.deepcopy(model_config)
        split = round(shared * width)
        pool = _round_to(width - split, options.get("block", 1))
        if not 0 < split < width or pool >= width:
            raise ConfigError(f"shared={shared} of {width} hidden units leaves nothing on one side")
        setattr(narrow, key, width - pool)
        return narrow, cls(pool=pool, active=active, **options).resolve(width)

    def resolve(self, width: int) -> Self:
        """The same pool with fractions turned into counts, for a model whose MLP has ``width`` hidden units."""
        whole_slots = self.allocation == "disjoint" and isinstance(self.active, int)
        multiple = int(self.active) if whole_slots else self.block
        pool = self.pool if isinstance(self.pool, int) else _round_to(self.pool * width, multiple)
        active = self.active if isinstance(self.active, int) else _round_to(self.active * pool, self.block)
        owned: int | float = pool if self.allocation == "disjoint" else self.owned
        if self.allocation == "hybrid" and isinstance(owned, float):
            owned = _round_to(owned * pool, active)
        return replace(self, pool=pool, active=active, owned=owned)

    def layer_numbers(self, count: int) -> tuple[int, ...]:
        """Numbers of the layers with sinks, in order, in a model of ``count`` decoder layers.

        Raises:
            ConfigError: the model has no layer of some number.
        """
        if self.layers and self.layers[-1] >= count:
            raise ConfigError(
                f"layers={list(self.layers)}: this model has {count} decoder layers, numbered 0 to {count - 1}"
            )
        return self.layers or tuple(range(count))

    def facts(self) -> dict[str, Any]:
        """All fields, for files; ``layers`` and ``mask`` only where they are used, so that others stay as they were."""
        found = asdict(self)
        return {k: v for k, v in found.items() if k not in ("layers", "mask") or v != getattr(SinkConfig, k)}


def check_layers(name: str, numbers: Any) -> None:
    """Check numbers of decoder layers; ``name`` is what the user calls them.

    Raises:
        ConfigError: they are not ascending integers from 0, each once.
    """
    if (
        not isinstance(numbers, tuple | list)
        or any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in numbers)
        or sorted(set(numbers)) != list(numbers)
    ):
        raise ConfigError(
            f"{name} must be numbers of decoder layers, from 0, in ascending order and each once, not {numbers!r}"
        )


def mlp_width(model_config: Any) -> int:
    """Hidden units in each MLP of a model with this configuration."""
    width = getattr(model_config, width_key(model_config))
    return 4 * model_config.hidden_size if width is None else width


def _round_to(value: float, multiple: int) -> int:
    return max(1, round(value / multiple)) * multiple
