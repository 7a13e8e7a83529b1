"""What a plan is asked: who may leave, how often that is expected, and what others may bear."""

from dataclasses import dataclass
from typing import Literal, get_args

from memsinks.errors import InputError
from memsinks.planning.governed import Unit, Units

Terms = Literal["each", "likely", "together"]

NUMBERS = (1, 5, 20)
"""Of units removed, where nobody says."""
COLLATERAL = 0.05


@dataclass(frozen=True, kw_only=True)
class Question:
    """The deletion terms.

    Attributes:
        remove: numbers of units that may leave; empty stands for those of :data:`NUMBERS` that leave a survivor.
        unit: what one request removes.
        terms: each unit may ask at any time; the likely sources may, others hardly ever; or all leave together.
        likely: sources that are expected to ask; empty stands for those that own rows in the run file.
        collateral: fraction of its sinks that a survivor may lose, in [0, 1).
        max_pool: most rows in a layer's pool that would be trained; none stands for those of the run file.
        draws: of the simulation.

    Raises:
        InputError: a value is out of range.
    """

    remove: tuple[int, ...] = ()
    unit: Unit = "id"
    terms: Terms = "each"
    likely: tuple[str, ...] = ()
    collateral: float = COLLATERAL
    max_pool: int | None = None
    draws: int = 200

    def __post_init__(self) -> None:
        for name, kinds in (("unit", Unit), ("terms", Terms)):
            if getattr(self, name) not in get_args(kinds):
                raise InputError(f"--{name} must be one of {', '.join(get_args(kinds))}, not {getattr(self, name)!r}")
        if any(number < 1 for number in self.remove):
            raise InputError(f"--remove takes numbers of 1 or more, not {min(self.remove)}")
        if not 0 <= self.collateral < 1:
            raise InputError(f"--collateral is a fraction of 0 or more and below 1, not {self.collateral}")
        if self.max_pool is not None and self.max_pool < 1:
            raise InputError(f"--max-pool is a number of rows, 1 or more, not {self.max_pool}")
        if self.draws < 2:
            raise InputError(f"--draws must be at least 2, not {self.draws}: one draw has no interval")

    def numbers(self, units: Units) -> tuple[int, ...]:
        """The numbers of units to remove, ascending, each once; none if there is one unit.

        Raises:
            InputError: a number leaves no survivor.
        """
        count = len(units)
        if not self.remove:
            return tuple(number for number in NUMBERS if number < count)
        if max(self.remove) >= count:
            raise InputError(
                f"--remove {max(self.remove)}: there are {count} governed {units.name}; remove at most {count - 1}, so "
                "that somebody is left whose loss can be counted"
            )
        return tuple(sorted(set(self.remove)))
