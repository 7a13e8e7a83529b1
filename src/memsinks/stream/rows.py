"""The training stream: a random-access sequence of rows, planned in full before the first one is read."""

import logging
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from memsinks.corpus import Corpus
from memsinks.errors import InputError
from memsinks.ids import PLACEBO_ID, to_tensor
from memsinks.stream.packing import _mix as mix
from memsinks.stream.packing import chunk, order, pack
from memsinks.stream.plan import ExposurePlan

if TYPE_CHECKING:
    import grain

IGNORED = -100
"""The label of a token that is not to be predicted."""


def build_stream(
    corpus: Corpus,
    plan: ExposurePlan,
    *,
    seed: int,
    max_length: int,
    packed: bool,
    governed: np.ndarray,
    window: int = 4096,
    placebo_share: float = 0.0,
) -> "grain.MapDataset[dict[str, np.ndarray]]":
    """The rows that a plan of exposures makes, in their global order.

    The units of the stream are the chunks of each planned pass over a document. They are ordered by ``seed`` and, if
    ``packed``, packed first-fit into rows, windows of units at a time. Row ``i`` is a function of the arguments and
    ``i`` alone: resuming at row ``i``, any number of workers and any world size are exact without saved state. That
    is why rows are planned in full here and not packed on the fly, as ``grain.experimental.FirstFitPackIterDataset``
    would; the plan costs about 32 bytes a unit.

    Indices past the end wrap around, as for every grain dataset: stop at ``len()``, or exposures are counted twice.

    Args:
        corpus: the corpus.
        plan: how often each of its documents is exposed.
        seed: any integer; seed of the order.
        max_length: most tokens in a row; longer documents are cut into chunks.
        packed: put several chunks in a row; else each has a row of its own.
        governed: ``bool`` ``[documents]``, true for documents that train with their sinks.
        window: units that are packed together.
        placebo_share: share of the passes over ungoverned documents, in ``[0, 1]``, that are trained with the sinks of
            a governed document, which do not learn from it; so that shared weights learn to predict beside other
            text's sinks. Each pass is drawn by itself, all its chunks alike, and the governed document with it, from
            those that the plan exposes; without any, the sinks are those of :data:`memsinks.PLACEBO_ID`.

    Returns:
        A dataset of rows. A row of ``T`` tokens, in which ``m`` passes over documents begin, has

        - ``input_ids`` ``int64`` ``[T]``;
        - ``labels`` ``int64`` ``[T]``: the inputs, with -100 at the first token of each chunk;
        - ``position_ids`` ``int64`` ``[T]``, if packed: from 0 in each chunk;
        - ``sequence_ids`` ``int64`` ``[T]``: the bit pattern of each token's sequence ID;
        - ``sink_mask`` ``bool`` ``[T]``: whether the token's document is governed, or its pass drawn for a placebo;
        - ``sink_frozen`` ``bool`` ``[T]``, if ``placebo_share`` is not 0: whether its pass is drawn for a placebo; its
          ``sequence_ids`` are then those of the governed document;
        - ``exposed_ids`` ``int64`` ``[m]``: sequence IDs of the passes that begin here, one entry a pass. They name the
          text that is passed over, never a placebo;
        - ``tokens_used`` ``int64`` ``[]``: ``T``.

    Raises:
        InputError: the plan is for another corpus or exposes nothing, or an argument is out of range.
    """
    rows = Rows(
        corpus,
        plan,
        seed=seed,
        max_length=max_length,
        packed=packed,
        governed=governed,
        window=window,
        placebo_share=placebo_share,
    )
    return _grain().MapDataset.source(rows)


class Rows:
    """The random-access source behind :func:`build_stream`; pickles small but for its plan."""

    def __init__(
        self,
        corpus: Corpus,
        plan: ExposurePlan,
        *,
        seed: int,
        max_length: int,
        packed: bool,
        governed: np.ndarray,
        window: int = 4096,
        placebo_share: float = 0.0,
    ) -> None:
        """Plan all rows; arguments as for :func:`build_stream`."""
        if plan.corpus.hash != corpus.hash:
            raise InputError(
                f"the plan is for the corpus {plan.corpus.path}, not {corpus.path}; make a plan for this one"
            )
        governed = np.asarray(governed)
        if governed.shape != (len(corpus),) or governed.dtype != np.bool_:
            raise InputError(f"governed must be {len(corpus)} booleans, one a document, not {governed.dtype}")
        if not plan.total:
            raise InputError("the plan exposes no document; give at least one document an exposure")
        self._corpus = corpus
        self._governed = governed
        self._packed = packed
        if not 0 <= placebo_share <= 1:
            raise InputError(f"placebo_share is {placebo_share}; it must be a share between 0 and 1")
        document, start, stop = chunk(corpus.lengths, max_length)
        copies = plan.counts[document]
        unit = np.repeat(np.arange(len(document)), copies)
        place = order(len(unit), seed)
        if packed:
            bins = pack((stop - start)[unit[place]], max_length, window)
            place = place[np.argsort(bins, kind="stable")]
            row_sizes = np.bincount(bins)
        else:
            row_sizes = np.ones(len(unit), dtype=np.int64)
        self._row_ends = np.cumsum(row_sizes)
        first_copy = np.cumsum(copies) - copies
        which_copy = (np.arange(len(unit)) - first_copy[unit])[place]
        unit = unit[place]
        self._document, self._start, self._stop = document[unit], start[unit], stop[unit]
        self._placebo: tuple[np.ndarray, np.ndarray] | None = None
        if placebo_share:
            drawn, ids = _placebos(plan, governed, placebo_share, seed)
            first_pass = np.cumsum(plan.counts) - plan.counts
            exposure = first_pass[self._document] + which_copy
            self._placebo = drawn[exposure], ids[exposure]

    def __len__(self) -> int:
        return len(self._row_ends)

    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]:
        i = index.__index__()
        if not 0 <= i < len(self):
            raise IndexError(f"row {i} of a stream of {len(self)}")
        units = range(int(self._row_ends[i - 1]) if i else 0, int(self._row_ends[i]))
        documents = self._document[units.start : units.stop]
        starts = self._start[units.start : units.stop]
        sizes = self._stop[units.start : units.stop] - starts
        pieces = [self._corpus.tokens(int(self._document[u]), self._start[u], self._stop[u]) for u in units]
        tokens = np.concatenate(pieces)
        first = np.cumsum(sizes) - sizes
        labels = tokens.copy()
        labels[first] = IGNORED
        ids = self._corpus.sequence_ids[documents].view(np.int64)
        used, on, columns = ids, self._governed[documents], {}
        if self._placebo is not None:
            frozen, placebo = (values[units.start : units.stop] for values in self._placebo)
            used, on = np.where(frozen, placebo, ids), on | frozen
            columns = {"sink_frozen": np.repeat(frozen, sizes)}
        row = {
            "input_ids": tokens,
            "labels": labels,
            "sequence_ids": np.repeat(used, sizes),
            "sink_mask": np.repeat(on, sizes),
            **columns,
            "exposed_ids": ids[starts == 0],
            "tokens_used": np.array(len(tokens), dtype=np.int64),
        }
        if self._packed:
            row["position_ids"] = np.arange(len(tokens)) - np.repeat(first, sizes)
        return row


def _placebos(plan: ExposurePlan, governed: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which passes get a placebo, and whose sinks: ``bool`` and ``int64`` ``[passes]``, passes in document order.

    As in :func:`~memsinks.stream.packing.order`, pass ``i`` gets outputs ``2i`` and ``2i + 1`` of a SplitMix64
    generator, here one whose state is not that of the order.
    """
    ungoverned = np.repeat(~governed, plan.counts)
    with np.errstate(over="ignore"):
        step = np.uint64(0x9E3779B97F4A7C15)
        state = mix(mix(np.array([int(seed) % 2**64], dtype=np.uint64) + step) ^ np.uint64(PLACEBO_ID))
        draws = mix(state + (np.arange(2 * len(ungoverned), dtype=np.uint64) + np.uint64(1)) * step)
    # 53 bits are exact as a float, so a share of 1 takes every pass.
    drawn = ungoverned & ((draws[0::2] >> np.uint64(11)) * 2.0**-53 < share)
    candidates = plan.corpus.sequence_ids[governed & (plan.counts > 0)].view(np.int64)
    if not len(candidates):
        candidates = to_tensor([PLACEBO_ID]).numpy()
    choice = (draws[1::2] >> np.uint64(32)) * np.uint64(len(candidates)) >> np.uint64(32)
    return drawn, candidates[choice.astype(np.int64)]


def _grain() -> Any:
    """Import grain when it is needed, without its remark that JAX's profiler is not there."""
    import absl.logging  # first: it makes the logger below one of its own class

    remarks = absl.logging.get_absl_logger()
    level = remarks.level
    remarks.setLevel(logging.ERROR)
    try:
        import grain
    finally:
        remarks.setLevel(level)
    return grain
