"""``--attenuate NAME=FACTOR``, as several commands take it."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from memsinks.errors import ConfigError

if TYPE_CHECKING:
    from memsinks.sinks.attenuation import Attenuation


def named_factors(texts: Sequence[str]) -> dict[str, float]:
    """Factors by name.

    Args:
        texts: ``NAME=FACTOR`` each; a name may have ``=`` in it.

    Raises:
        ConfigError: one cannot be read, its factor is not in [0, 1], or a name comes twice.
    """
    found: dict[str, float] = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            factor = float(number)
        except ValueError:
            factor = -1.0
        if not name or not 0 <= factor <= 1:
            raise ConfigError(
                f"--attenuate {text!r}: give NAME=FACTOR, a source or sequence ID and a number from 0 (its sinks add "
                "nothing) to 1 (nothing changes); that is no removal, which `memsinks forget` makes"
            )
        if name in found:
            raise ConfigError(f"--attenuate names {name!r} twice; give it one factor")
        found[name] = factor
    return found


def attenuation_text(model: Any, own: "Attenuation", others: Iterable[int]) -> str:
    """What an attenuation does, for people.

    Args:
        model: with sinks.
        own: the attenuation.
        others: IDs that may be on too; those of the attenuation are left out.
    """
    from memsinks.sinks.collateral import collateral

    shared = collateral(model, own.ids, others)
    text = f"{own.name}: sinks of {len(own.ids):,} IDs scaled by {own.factor:g}, which is no removal"
    if not shared.affected:
        return f"{text}; none of {shared.survivors:,} other IDs shares them"
    return (
        f"{text}; {shared.affected:,} of {shared.survivors:,} other IDs share some, and have on average "
        f"{shared.mean:.1%} of their rows scaled too, at most {shared.most:.1%}"
    )
