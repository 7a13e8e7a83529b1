"""Where runs of tokens occur in a corpus, without decoding it."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

BLOCK = 1 << 20
"""Tokens searched at a time."""


def occurring(documents: Iterable[np.ndarray], runs: Sequence[np.ndarray]) -> np.ndarray:
    """Which runs of tokens occur in any of the documents, ``bool [runs]``.

    One pass over the documents for each length of a run: positions with the first token of one are compared by a hash,
    and what agrees, token by token.

    Args:
        documents: token IDs, ``int64 [n]`` each, none negative; a run across two of them does not count.
        runs: ``int64 [m]`` each, not empty.
    """
    found = np.zeros(len(runs), dtype=bool)
    lengths = np.array([len(run) for run in runs], dtype=np.int64)
    groups = [(np.flatnonzero(lengths == m), int(m)) for m in np.unique(lengths)]
    tables = [(chosen, np.stack([runs[i] for i in chosen.tolist()]), m) for chosen, m in groups]
    for block in _blocks(documents):
        for chosen, table, length in tables:
            open_ones = ~found[chosen]
            if open_ones.any() and len(block) >= length:
                found[chosen[open_ones]] = _in_block(block, table[open_ones], length)
    return found


def _in_block(block: np.ndarray, table: np.ndarray, length: int) -> np.ndarray:
    begins = np.zeros(max(int(block.max()), int(table.max())) + 1, dtype=bool)
    begins[table[:, 0]] = True
    heads = block[: len(block) - length + 1]
    positions = np.flatnonzero((heads >= 0) & begins[np.maximum(heads, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(block, length)[positions]
    weights = np.random.default_rng(0).integers(2**63, size=length, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    hashes, wanted = (np.asarray((rows.astype(np.uint64) * weights).sum(axis=1)) for rows in (windows, table))
    order = np.argsort(hashes, kind="stable")
    first, last = (np.searchsorted(hashes[order], wanted, side) for side in ("left", "right"))
    return np.array(
        [bool((windows[order[a:b]] == run).all(axis=1).any()) for a, b, run in zip(first, last, table, strict=True)]
    )


def _blocks(documents: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Documents joined, with a token that no run has between two."""
    held: list[np.ndarray] = []
    size = 0
    for tokens in documents:
        held += [tokens, np.array([-1])]
        size += len(tokens) + 1
        if size >= BLOCK:
            yield np.concatenate(held)
            held, size = [], 0
    if held:
        yield np.concatenate(held)
