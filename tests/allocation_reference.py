"""Who uses which rows of a pool, in plain Python, written apart from memsinks; imports nothing from it."""

from selection_reference import reference_rows


class ReferenceAllocation:
    """A pool's regions, owners and the IDs that keep an older region."""

    def __init__(self, pool: int, active: int, *, owned: int = 0, seed: int = 0, block: int = 1) -> None:
        self.active, self.seed, self.block = active, seed, block
        self.pool = pool
        self.segments = [(0, pool - owned)] if pool > owned else []
        self.slots = list(range(pool - owned, pool, active))
        self.owners: dict[int, int] = {}
        self.home: dict[int, int] = {}

    def register(self, ids: list[int]) -> bool:
        """Whether there was room; nothing changes if not."""
        new = [i for i in dict.fromkeys(ids) if i not in self.owners]
        if len(self.owners) + len(new) > len(self.slots):
            return False
        for i in new:
            self.owners[i] = self.slots[len(self.owners)]
        return True

    def grow(self, rows: int, trained: list[int]) -> None:
        if self.segments:
            for i in trained:
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
