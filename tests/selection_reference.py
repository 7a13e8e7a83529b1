"""Sink selection in plain Python integers, written apart from memsinks, and the golden file made with it.

``python tests/selection_reference.py > tests/golden/selection.json`` made the golden file, once. It is frozen: a
trained model finds its sinks only while selection gives these rows, so a difference is a bug in selection, never a
reason to write the file again. This file imports nothing from memsinks.
"""

import itertools
import json
import math

U64 = 2**64
GOLDEN_RATIO = 0x9E3779B97F4A7C15
ROUNDS, SMALL_ROUNDS, SMALL = 6, 12, 128


def splitmix(x: int) -> int:
    x %= U64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % U64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % U64
    return x ^ (x >> 31)


def reference_rows(sequence_id: int, *, seed: int, layer: int, pool: int, active: int, block: int = 1) -> list[int]:
    """Rows of one ID in one layer, in order."""
    size = pool // block
    a = math.ceil(math.sqrt(size))
    b = math.ceil(size / a)
    key = splitmix(splitmix(sequence_id) + splitmix(seed + splitmix((layer + 1) * GOLDEN_RATIO)))
    round_keys = [splitmix(key + r * GOLDEN_RATIO) for r in range(1, (SMALL_ROUNDS if size <= SMALL else ROUNDS) + 1)]

    def once(x: int) -> int:
        left, right = divmod(x, b)
        for number, round_key in enumerate(round_keys):
            source, bound = (right, a) if number % 2 == 0 else (left, b)
            value = (splitmix(round_key + source * GOLDEN_RATIO) // 2**32) * bound // 2**32
            if number % 2 == 0:
                left = (left + value) % a
            else:
                right = (right + value) % b
        return left * b + right

    rows = []
    for x in range(active // block):
        x = once(x)
        while x >= size:
            x = once(x)
        rows += range(x * block, (x + 1) * block)
    return rows


def reference_select(ids: list[int], *, seed: int, layers: int, pool: int, active: int, block: int = 1) -> list:
    options = {"seed": seed, "pool": pool, "active": active, "block": block}
    return [[reference_rows(i, layer=layer, **options) for i in ids] for layer in range(layers)]


GOLDEN_IDS = (0, 1, 2, 3, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 2, 2**64 - 1, 0x0123456789ABCDEF, 0xFEDCBA9876543210)
GOLDEN_POOLS = (
    {"pool": 1, "active": 1, "block": 1},
    {"pool": 5, "active": 2, "block": 1},
    {"pool": 97, "active": 10, "block": 1},
    {"pool": 230, "active": 69, "block": 1},
    {"pool": 768, "active": 24, "block": 8},
    {"pool": 64000, "active": 16, "block": 1},
)


def golden() -> list[dict]:
    return [
        {"seed": seed, "layers": 3, **shape, "id": f"{i:016x}", "rows": [r[0] for r in rows]}
        for seed, shape, i in itertools.product((0, 2**63 - 1), GOLDEN_POOLS, GOLDEN_IDS)
        for rows in [reference_select([i], seed=seed, layers=3, **shape)]
    ]


if __name__ == "__main__":
    print("[\n" + ",\n".join(json.dumps(case) for case in golden()) + "\n]")
