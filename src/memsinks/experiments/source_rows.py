"""From losses by novel to rows: means over novels, removal against a model that never saw the novel, and collateral."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from memsinks.audit import DocumentLosses, Interval, bootstrap, forgetting, removable_memory, trace_left, wilson
from memsinks.experiments.measured import Measured
from memsinks.experiments.memory import interval_row, loss_row
from memsinks.experiments.results import Row

PARTS = ("train", "held_out")
"""Of a novel: the chapters that are trained on, and the others."""
REMOVED = "removed"
"""The mode of a model from which the text's own key was removed, and which else runs in mode own."""


@dataclass(frozen=True)
class Found:
    """What was measured of one model in one mode, or of several that stand for one.

    Attributes:
        losses: by the name of the set, as in :class:`memsinks.experiments.books.BookText`.
        matching: of each passage that extraction was tried on, tokens before the first wrong one. A passage has the
            name of its chapter, which begins with the novel's, as a set's name does.
    """

    losses: Mapping[str, DocumentLosses]
    matching: Mapping[str, int]

    @classmethod
    def of(cls, measured: Measured, mode: str) -> "Found":
        """One mode of what an arm's file holds."""
        names = [name for name, by_mode in measured.data["losses"].items() if mode in by_mode]
        tried = measured.data["extraction"].get(mode, {"documents": {}})["documents"]
        matching = {name: document["matching"] for name, document in tried.items()}
        return cls({name: measured.losses(name, mode) for name in names}, matching)

    def only(self, books: Iterable[str]) -> "Found":
        """The part about these novels."""
        prefixes = tuple(f"{book}/" for book in books)
        return Found(
            {name: losses for name, losses in self.losses.items() if name.startswith(prefixes)},
            {name: count for name, count in self.matching.items() if name.startswith(prefixes)},
        )


def merged(parts: Iterable[Found]) -> Found:
    """What several models say, each about novels of its own."""
    losses: dict[str, DocumentLosses] = {}
    matching: dict[str, int] = {}
    for part in parts:
        losses |= part.losses
        matching |= part.matching
    return Found(losses, matching)


def found_rows(
    arm: str, found: Found, groups: Mapping[str, Sequence[str]], suffix: int, mode: str = "plain"
) -> list[Row]:
    """Every loss; loss and extraction of each novel and of groups of novels.

    ``<novel>/extraction`` is the rate of whole passages, ``<novel>/matching`` the mean of the tokens before the first
    wrong one. The mean loss of a group weighs its novels alike. Groups of which a novel was not measured are left out.

    Args:
        arm: whose rows these are.
        found: its measurements.
        groups: novels by the name of the group; each novel is one of itself.
        suffix: tokens that count as extracted.
        mode: of the rows.
    """
    rows = [loss_row(arm, name, losses, mode) for name, losses in found.losses.items()]
    for group, books in groups.items():
        if any(f"{book}/train" not in found.losses for book in books):
            continue
        if list(books) != [group]:
            rows += [interval_row(arm, f"{group}/{p}", over_novels(_same, [found], books, p), mode) for p in PARTS]
        matching = list(found.only(books).matching.values())
        if matching:
            rate = wilson(sum(count == suffix for count in matching), len(matching))
            rows.append(interval_row(arm, f"{group}/extraction", rate, mode))
            mean = sum(matching) / len(matching)
            rows.append(Row(arm=arm, measure=f"{group}/matching", mode=mode, value=mean))
    return rows


def over_novels(
    statistic: Callable[..., Any], models: Sequence[Found], books: Sequence[str], part: str = "train"
) -> Interval:
    """A statistic of mean losses over novels, one for each model; passages are drawn within each novel.

    The interval speaks of the choice of passages of these novels.
    """
    return _over_parts(statistic, [(model, part) for model in models], books)


def _over_parts(statistic: Callable[..., Any], parts: Sequence[tuple[Found, str]], books: Sequence[str]) -> Interval:
    """:func:`over_novels`, of one part of the novels for each model."""
    names = [f"{book}/{part}" for _, part in parts for book in books]
    samples = [model.losses[f"{book}/{part}"] for model, part in parts for book in books]

    def whole(*means: Any) -> Any:
        count = len(books)
        return statistic(*(sum(means[i : i + count]) / count for i in range(0, len(means), count)))

    return bootstrap(whole, *samples, groups=names)


def removal_rows(arm: str, own: Found, removed: Found, gold: Found, standard: Found, books: Sequence[str]) -> list[Row]:
    """How close a removal comes to a model retrained without the text, and what there was to remove.

    Args:
        arm: whose rows these are.
        own: before removal.
        removed: each novel after the removal of its key.
        gold: each novel under a model that was retrained without it.
        standard: under standard training.
        books: the novels that are removed, with equal weight.

    Returns:
        ``forgetting``, ``over_gold`` (nats that removal leaves above the retrained model), the same of held-out
        chapters (``held_out_over_gold``), and where standard training memorised ``removable_memory`` and
        ``trace_left``: how much easier training chapters are than held-out ones, beyond the retrained model, as a
        share of the same under standard training. 0 is as after retraining.
    """
    found = {
        "forgetting": over_novels(forgetting, [removed, gold], books),
        "over_gold": over_novels(_difference, [removed, gold], books),
        "held_out_over_gold": over_novels(_difference, [removed, gold], books, "held_out"),
    }
    models = (removed, gold, standard)
    with suppress(ValueError):
        found["trace_left"] = _over_parts(_trace_left, [(model, part) for part in PARTS for model in models], books)
    with suppress(ValueError):
        found["removable_memory"] = over_novels(removable_memory, [removed, own, gold, standard], books)
    return [interval_row(arm, measure, interval, REMOVED) for measure, interval in found.items()]


def collateral_rows(arm: str, own: Found, after: Mapping[str, Found], keys: Mapping[str, Sequence[str]]) -> list[Row]:
    """Nats per token that the removal of a key adds to training chapters of novels in mode own.

    Args:
        arm: whose rows these are.
        own: before any removal.
        after: by the key that was removed.
        keys: the novels of each key.

    Returns:
        ``collateral`` of novels of other keys, mean and worst (``collateral_worst``) over keys and novels;
        ``<novel>/collateral`` for the removal of one novel's key; ``collateral_kin`` of novels that share a key.
    """
    others = [(key, book) for key in keys for group in keys.values() for book in group if book not in keys[key]]
    kin = [(key, book) for key, group in keys.items() if len(group) > 1 for book in group]
    rows = []
    for measure, pairs in (("collateral", others), ("collateral_kin", kin)):
        if pairs:
            rows.append(interval_row(arm, measure, _change(pairs, own, after), REMOVED))
    if not others:
        return rows
    worst = max(_change([pair], own, after).estimate for pair in others)
    rows.append(Row(arm=arm, measure="collateral_worst", mode=REMOVED, value=worst))
    for key, group in keys.items():
        change = _change([pair for pair in others if pair[0] == key], own, after)
        rows += [interval_row(arm, f"{book}/collateral", change, REMOVED) for book in group]
    return rows


def _change(pairs: Sequence[tuple[str, str]], own: Found, after: Mapping[str, Found]) -> Interval:
    """The mean over (key that was removed, novel that is measured)."""
    count, names = len(pairs), [f"{book}/train" for _, book in pairs]
    samples = [after[key].losses[name] for (key, _), name in zip(pairs, names, strict=True)]
    samples += [own.losses[name] for name in names]

    def mean(*means: Any) -> Any:
        return sum(a - b for a, b in zip(means[:count], means[count:], strict=True)) / count

    return bootstrap(mean, *samples, groups=[*names, *names])


def _trace_left(*means: Any) -> Any:
    """Of the means of training chapters after removal, retraining and standard training, then of held-out ones."""
    return trace_left(*(h - t for t, h in zip(means[:3], means[3:], strict=True)))


def _same(mean: Any) -> Any:
    return mean


def _difference(first: Any, second: Any) -> Any:
    return first - second
