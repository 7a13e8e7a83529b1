"""Cut documents into chunks, order them, and pack them into rows; pure functions of their arguments.

Shape legend: ``D`` documents, ``C`` chunks, ``N`` items to order or pack.
"""

import numpy as np

from memsinks.errors import InputError

MIN_CHUNK = 2
"""The first token of a chunk has nothing to be predicted from, so a shorter chunk trains nothing."""

_MASK = (1 << 64) - 1


def chunk(lengths: np.ndarray, max_length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut documents into chunks of at most ``max_length`` tokens, losing and repeating none.

    All chunks of a document but its last have ``max_length`` tokens. Where that would leave a single token at the end,
    the last chunk takes one more from the chunk before it.

    Args:
        lengths: ``[D]`` tokens of each document, each at least 2.
        max_length: at least 3, for no cut of three tokens into chunks of two leaves two in each.

    Returns:
        ``document``, ``start`` and ``stop``, ``int64`` ``[C]``: chunk ``c`` holds the tokens ``start:stop`` of its
        document. Chunks are in document order.

    Raises:
        InputError: ``max_length`` or a document is too short.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    if max_length <= MIN_CHUNK:
        raise InputError(f"max_length is {max_length}; it must be at least {MIN_CHUNK + 1}")
    if len(lengths) and lengths.min() < MIN_CHUNK:
        raise InputError(
            f"document {int(lengths.argmin())} has {int(lengths.min())} token(s); at least {MIN_CHUNK} are needed to "
            "train on it"
        )
    chunks_per_document = -(-lengths // max_length)
    document = np.repeat(np.arange(len(lengths)), chunks_per_document)
    first_chunk = np.cumsum(chunks_per_document) - chunks_per_document
    start = (np.arange(len(document)) - first_chunk[document]) * max_length
    stop = np.minimum(start + max_length, lengths[document])
    short = np.flatnonzero(stop - start < MIN_CHUNK)
    start[short] -= 1
    stop[short - 1] -= 1
    return document, start, stop


def order(count: int, seed: int) -> np.ndarray:
    """A random order of ``count`` items: ``int64`` ``[count]``, a function of its arguments alone.

    Item ``i`` is sorted by output ``i`` of the SplitMix64 generator, in exact integer arithmetic, so the order is the
    same on every machine and in every version of NumPy. ``seed`` is any integer, taken modulo 2**64.
    """
    with np.errstate(over="ignore"):
        step = np.uint64(0x9E3779B97F4A7C15)
        # Neighbouring seeds start the generator at unrelated states, not one step apart.
        state = _mix(np.array([int(seed) & _MASK], dtype=np.uint64) + step)
        keys = _mix(state + (np.arange(count, dtype=np.uint64) + np.uint64(1)) * step)
    return np.argsort(keys, kind="stable")


def pack(lengths: np.ndarray, capacity: int, window: int) -> np.ndarray:
    """First-fit packing, started afresh every ``window`` items.

    An item goes into the first bin of its window that has room for it; a new bin is opened where none has. The
    result depends on the order of the lengths and on ``window`` alone, and later items never change it for earlier
    windows.

    Args:
        lengths: ``[N]``, each in ``[1, capacity]``.
        capacity: what the lengths in one bin may add up to.
        window: items packed together; more waste less, and mix the order of the items over a wider range.

    Returns:
        ``int64`` ``[N]``: the bin of each item, bins numbered from 0 in order of opening.

    Raises:
        InputError: an item is empty or exceeds the capacity, or ``window`` is below 1.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    if window < 1:
        raise InputError(f"window is {window}; it must be at least 1")
    if len(lengths) and not 1 <= lengths.min() <= lengths.max() <= capacity:
        raise InputError(f"lengths from {lengths.min()} to {lengths.max()} do not fit bins of {capacity}")
    bins = np.empty(len(lengths), dtype=np.int64)
    opened = 0
    for begin in range(0, len(lengths), window):
        part = lengths[begin : begin + window]
        # One unopened bin for each item, so the search below always finds a bin.
        room = np.full(len(part), capacity, dtype=np.int64)
        used = 0
        for i, length in enumerate(part.tolist()):
            target = int((room[: used + 1] >= length).argmax())
            room[target] -= length
            used = max(used, target + 1)
            bins[begin + i] = opened + target
        opened += used
    return bins


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
