"""Who uses which rows of a pool, in plain Python, written apart from memsinks; imports nothing from it."""

from selection_reference import reference_rows


class ReferenceAllocation:
    """A pool's regions, owners and the IDs that keep an older region."""

    def __init__(
        self, pool: int, active: int, *, layers: int = 1, owned: int = 0, seed: int = 0, block: int = 1
    ) -> None:
        self.active, self.seed, self.block = active, seed, block
        self.pool = pool
        self.segments = [(0, pool - owned)] if pool > owned else []
        self.slots = list(range(pool - owned, pool, active))
        self.owners: dict[int, int] = {}
        self.home: dict[int, int] = {}
        self.removed: dict[int, bool] = {}
        self.gone: list[set[int]] = [set() for _ in range(layers)]

    def register(self, ids: list[int]) -> bool:
        """Whether there was room; nothing changes if not."""
        new = [i for i in dict.fromkeys(ids) if i not in self.owners]
        free = [slot for slot in self.slots if slot not in self.owners.values() and slot not in self.gone[0]]
        if len(new) > len(free) or any(i in self.removed for i in new):
            return False
        self.owners |= dict(zip(new, free, strict=False))
        return True

    def remove(self, ids: list[int], survivors: list[int] | None) -> None:
        """Without ``survivors`` every row of ``ids`` goes, else those that no survivor chooses."""
        kept = {i for i in ids if survivors is not None and i not in self.owners}
        again = [i for i, keeps in self.removed.items() if keeps and survivors is not None]
        for layer, gone in enumerate(self.gone):
            wanted = {row for i in [*ids, *again] for row in self.rows(i, layer)}
            gone |= wanted - {row for i in survivors or [] if i not in ids for row in self.rows(i, layer)}
        for i in ids:
            self.removed[i] = i in kept and self.removed.get(i, True)
            self.owners.pop(i, None)

    def left(self, sequence_id: int) -> list[list[int]]:
        """The rows of an ID that are there, by layer; none in any if it was removed or lost all in one."""
        found = [[r for r in self.rows(sequence_id, n) if r not in gone] for n, gone in enumerate(self.gone)]
        return found if all(found) and sequence_id not in self.removed else [[] for _ in found]

    def grow(self, rows: int, trained: list[int]) -> None:
        if self.segments:
            for i in [*trained, *self.removed]:
                self.home.setdefault(i, len(self.segments) - 1)
            self.segments.append((self.pool, rows))
        else:
            self.slots += range(self.pool, self.pool + rows, self.active)
        self.pool += rows

    def rows(self, sequence_id: int, layer: int) -> list[int]:
        if sequence_id in self.owners:
            first = self.owners[sequence_id]
            return list(range(first, first + self.active))
        if not self.segments:
            return []
        first, size = self.segments[self.home.get(sequence_id, len(self.segments) - 1)]
        options = {"seed": self.seed, "layer": layer, "pool": size, "active": self.active, "block": self.block}
        return [first + row for row in reference_rows(sequence_id, **options)]
