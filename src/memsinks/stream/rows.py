"""The training stream: a random-access sequence of rows, planned in full before the first one is read."""

import logging
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from memsinks.corpus import Corpus
from memsinks.errors import InputError
from memsinks.stream.packing import chunk, order, pack
from memsinks.stream.plan import ExposurePlan
from memsinks.stream.treatment import Treatment, dropped, governed_first, placebos, wrong_ids

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
    treatment: Treatment | None = None,
    passes_before: int = 0,
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
        treatment: what else happens to passes; by default nothing.
        passes_before: how often the whole plan was gone through before, for the budget of exposures.

    Returns:
        A dataset of rows. A row of ``T`` tokens, in which ``m`` passes over documents begin, has

        - ``input_ids`` ``int64`` ``[T]``;
        - ``labels`` ``int64`` ``[T]``: the inputs, with -100 at the first token of each chunk;
        - ``position_ids`` ``int64`` ``[T]``, if packed: from 0 in each chunk;
        - ``sequence_ids`` ``int64`` ``[T]``: the bit pattern of each token's sequence ID;
        - ``sink_mask`` ``bool`` ``[T]``: whether the token's document is governed, or its pass drawn for a placebo;
        - ``sink_frozen`` ``bool`` ``[T]``, if ``placebo_share`` is not 0: whether its pass is drawn for a placebo; its
          ``sequence_ids`` are then those of the governed document;
        - ``shared_frozen`` ``bool`` ``[T]``, with a ``shared_budget``: whether its document's is used up;
        - ``exposed_ids`` ``int64`` ``[m]``: sequence IDs of the passes that begin here, one entry a pass. They name the
          text that is passed over, never a placebo or a wrong ID;
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
        treatment=treatment,
        passes_before=passes_before,
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
        treatment: Treatment | None = None,
        passes_before: int = 0,
    ) -> None:
        """Plan all rows; arguments as for :func:`build_stream`."""
        if plan.corpus.hash != corpus.hash:
            raise InputError(
                f"the plan is for the corpus {plan.corpus.place}, not {corpus.place}; make a plan for this one"
            )
        governed = np.asarray(governed)
        if governed.shape != (len(corpus),) or governed.dtype != np.bool_:
            raise InputError(f"governed must be {len(corpus)} booleans, one a document, not {governed.dtype}")
        if not plan.total:
            raise InputError("the plan exposes no document; give at least one document an exposure")
        self._corpus = corpus
        self._governed = governed
        self._packed = packed
        self._treatment = treatment = treatment or Treatment()
        document, start, stop = chunk(corpus.lengths, max_length)
        copies = plan.counts[document]
        unit = np.repeat(np.arange(len(document)), copies)
        place = order(len(unit), seed)
        if treatment.governed_until < 1:
            place = governed_first(place, governed[document[unit[place]]], treatment.governed_until, seed)
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
        exposure = (np.cumsum(plan.counts) - plan.counts)[self._document] + which_copy
        self._placebo: tuple[np.ndarray, np.ndarray] | None = None
        if treatment.placebo_share:
            drawn, ids = placebos(plan, governed, treatment.placebo_share, seed)
            self._placebo = drawn[exposure], ids[exposure]
        self._ids = corpus.sequence_ids[self._document].view(np.int64)
        if treatment.id_noise:
            drawn, ids = wrong_ids(plan, governed, treatment.id_noise, treatment.id_noise_kind, seed)
            self._ids = np.where(drawn[exposure], ids[exposure], self._ids)
        self._shared_frozen: np.ndarray | None = None
        if treatment.shared_budget is not None:
            # Copies of a text share its budget; their chunks begin at the same tokens.
            _, text = np.unique(corpus.content_ids, return_inverse=True)
            texts = text[self._document]
            planned = np.bincount(text, weights=plan.counts).astype(np.int64)
            earlier = _occurrence(texts * corpus.lengths.max() + self._start) + passes_before * planned[texts]
            self._shared_frozen = governed[self._document] & (earlier >= treatment.shared_budget)

    def __len__(self) -> int:
        return len(self._row_ends)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of every row: ``int64`` ``[rows]``."""
        return np.add.reduceat(self._stop - self._start, np.append(0, self._row_ends[:-1]))

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
        if self._treatment.goldfish:
            one_in, context = self._treatment.goldfish, self._treatment.goldfish_context
            labels[np.concatenate([dropped(piece, one_in, context) for piece in pieces])] = IGNORED
        used, on, columns = self._ids[units.start : units.stop], self._governed[documents], {}
        if self._placebo is not None:
            frozen, placebo = (values[units.start : units.stop] for values in self._placebo)
            used, on = np.where(frozen, placebo, used), on | frozen
            columns = {"sink_frozen": np.repeat(frozen, sizes)}
        if self._shared_frozen is not None:
            columns["shared_frozen"] = np.repeat(self._shared_frozen[units.start : units.stop], sizes)
        row = {
            "input_ids": tokens,
            "labels": labels,
            "sequence_ids": np.repeat(used, sizes),
            "sink_mask": np.repeat(on, sizes),
            **columns,
            "exposed_ids": self._corpus.sequence_ids[documents[starts == 0]].view(np.int64),
            "tokens_used": np.array(len(tokens), dtype=np.int64),
        }
        if self._packed:
            row["position_ids"] = np.arange(len(tokens)) - np.repeat(first, sizes)
        return row


def _occurrence(items: np.ndarray) -> np.ndarray:
    """How often each item has come before in the array: ``int64``, of the same length."""
    by_item = np.argsort(items, kind="stable")
    starts = np.flatnonzero(np.diff(items[by_item], prepend=-1))
    counts = np.diff(starts, append=len(items))
    out = np.empty(len(items), dtype=np.int64)
    out[by_item] = np.arange(len(items)) - np.repeat(starts, counts)
    return out


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
