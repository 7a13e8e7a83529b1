"""What a stream shows, counted from its rows."""

from collections import Counter

import numpy as np

from memsinks.corpus import Corpus
from memsinks.stream import ExposurePlan, build_stream, chunk


def check_stream(
    corpus: Corpus,
    plan: ExposurePlan,
    sinks_on: np.ndarray,
    *,
    max_length: int,
    packed: bool,
    window: int = 4096,
    seed: int = 0,
) -> None:
    """Every chunk of every document comes as often as planned, under its own sequence ID.

    Documents of the same tokens must have the same sequence ID and be alike in ``sinks_on``.
    """
    rows = build_stream(corpus, plan, seed=seed, max_length=max_length, packed=packed, governed=sinks_on, window=window)
    documents, starts, stops = chunk(corpus.lengths, max_length)
    known = {
        (int(corpus.sequence_ids[d]), tuple(corpus.tokens(int(d))[a:b].tolist())): (int(d), int(a))
        for d, a, b in zip(documents, starts, stops, strict=True)
    }
    seen: Counter[tuple[int, int]] = Counter()
    begun: Counter[int] = Counter()
    for i in range(len(rows)):
        row = rows[i]
        assert int(row["tokens_used"]) == len(row["input_ids"]) <= max_length
        names = row["sequence_ids"].view(np.uint64)
        begins = np.flatnonzero(row["labels"] == -100)
        for piece in np.split(np.arange(len(names)), begins[1:]):
            assert len(set(names[piece].tolist())) == 1
            # Every token's sequence ID is that of the document it comes from.
            document, start = known[int(names[piece[0]]), tuple(row["input_ids"][piece].tolist())]
            assert (row["sink_mask"][piece] == sinks_on[document]).all()
            seen[document, start] += 1
        begun.update(row["exposed_ids"].view(np.uint64).tolist())
    # Repeated chunks of one document with equal tokens share a key of `known`, so compare counts through it.
    expected: Counter[tuple[int, int]] = Counter()
    planned: Counter[int] = Counter()
    for d, a, b in zip(documents, starts, stops, strict=True):
        key = known[int(corpus.sequence_ids[d]), tuple(corpus.tokens(int(d))[a:b].tolist())]
        expected[key] += int(plan.counts[d])
    for sequence_id, count in zip(corpus.sequence_ids.tolist(), plan.counts.tolist(), strict=True):
        planned[sequence_id] += count
    assert seen == +expected
    assert begun == +planned
