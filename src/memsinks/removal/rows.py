"""Which rows a removal takes, and what surviving IDs lose with them."""

from dataclasses import dataclass, replace

from memsinks.ids import to_tensor
from memsinks.removal.policy import Choice
from memsinks.removal.scope import Decision, Scope
from memsinks.removal.subject import Subject
from memsinks.sinks.allocation import AllocationTable
from memsinks.sinks.collateral import Collateral, reached
from memsinks.sinks.removal import chosen_rows, present_rows, without, without_any


@dataclass(frozen=True, eq=False)
class Cut:
    """A removal as the tensors will see it.

    Attributes:
        table: after it.
        removed: rows that go, for each layer with sinks.
        chosen: rows of the removed IDs, for each layer.
        shared: of these, over all layers, those that surviving IDs chose too.
        collateral: what others lose.
    """

    table: AllocationTable
    removed: tuple[int, ...]
    chosen: tuple[int, ...]
    shared: int
    collateral: Collateral


def cut(subject: Subject, scope: Scope, shared_rows: Choice | None) -> tuple[Cut, Scope]:
    """The rows that go; the scope comes back with the decision about shared rows, if there are any.

    Without a decision the cut is that of removing them.
    """
    files, layers = subject.files, subject.layers
    places = len(files.layers())
    config, table = files.config, files.table
    before = [table.rows_in(place) for place in range(places)]
    if scope.everything:
        ids = to_tensor(scope.ids)
        after = without_any(without(table, ids, config, layers), config, layers)
        return Cut(after, tuple(before), tuple(before), 0, Collateral.none(scope.ids[:0])), scope
    ids, survivors = to_tensor(scope.ids), to_tensor(scope.survivors)
    own = chosen_rows(table, ids, config, layers)
    present = present_rows(table, places)
    chosen = tuple(int((mine & there).sum()) for mine, there in zip(own, present, strict=True))
    staying = chosen_rows(table, survivors, config, layers) if table.segments else []
    shared = sum(int((mine & theirs & p).sum()) for mine, theirs, p in zip(own, staying, present, strict=False))
    if shared:
        scope = replace(scope, decisions=(*scope.decisions, _decision(shared, sum(chosen), shared_rows)))
    keep = bool(shared) and shared_rows == "keep"
    after = without(table, ids, config, layers, survivors=survivors if keep else None)
    removed = tuple(b - after.rows_in(place) for place, b in enumerate(before))
    lost = Collateral.none(scope.survivors)
    if shared and not keep:
        gone = [there & ~left for there, left in zip(present, present_rows(after, places), strict=True)]
        lost = reached(table, gone, scope.survivors, config, layers)
    return Cut(after, removed, chosen, shared, lost), scope


def _decision(shared: int, chosen: int, choice: Choice | None) -> Decision:
    return Decision(
        name="shared-rows",
        what=f"of {chosen:,} rows of the request, over all layers, are shared with surviving IDs",
        number=shared,
        examples=(),
        remove="they go, and surviving IDs go on without them",
        keep="they stay, and what the request left in them stays too",
        choice=choice,
    )
