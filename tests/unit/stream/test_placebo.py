"""Passes over ungoverned text that train beside the frozen sinks of other text."""

from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest
import torch

from memsinks import PLACEBO_ID
from memsinks.errors import InputError
from memsinks.ids import to_tensor
from memsinks.stream import Collator, ExposurePlan, Treatment, build_stream

MASK = 2**64 - 1
STEP = 0x9E3779B97F4A7C15
GOVERNED = (0, 3, 5, 8)


def splitmix(x: int) -> int:
    x &= MASK
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    return x ^ (x >> 31)


def is_governed(corpus) -> np.ndarray:
    governed = np.zeros(len(corpus), dtype=bool)
    governed[list(GOVERNED)] = True
    return governed


@pytest.fixture(scope="module")
def plan(corpus):
    return ExposurePlan.once(corpus).repeat([2, 3, 6, 7], 9).without([8])


def stream(corpus, plan, placebo_share=0.4, **changes):
    treatment = Treatment(placebo_share=placebo_share)
    options = {"seed": 3, "max_length": 12, "packed": True, "governed": is_governed(corpus), "treatment": treatment}
    return build_stream(corpus, plan, **(options | changes))


def pieces(rows):
    """Every chunk of the stream: its columns, by name."""
    for i in range(len(rows)):
        row = rows[i]
        begins = np.flatnonzero(row["labels"] == -100).tolist()
        for start, stop in zip(begins, [*begins[1:], len(row["labels"])], strict=True):
            yield {k: v[start:stop] for k, v in row.items() if v.ndim and len(v) == len(row["labels"])}


def expected(corpus, plan, share: float, seed: int) -> dict[int, list[int | None]]:
    """For each document, the placebo of each of its passes, or None; written apart from memsinks."""
    state = splitmix(splitmix(seed + STEP) ^ PLACEBO_ID)
    candidates = [d for d in GOVERNED if plan.counts[d]]
    found, number = defaultdict(list), 0
    for document, count in enumerate(plan.counts.tolist()):
        for _ in range(count):
            coin, choice = (splitmix(state + (2 * number + k + 1) * STEP) for k in range(2))
            drawn = document not in GOVERNED and (coin >> 11) / 2**53 < share
            whose = candidates[(choice >> 32) * len(candidates) >> 32]
            found[document].append(int(corpus.sequence_ids[whose]) if drawn else None)
            number += 1
    return found


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("seed", [3, -1])
def test_each_pass_is_drawn_as_by_the_reference(corpus, plan, packed, seed):
    """The chunks of a document, told apart by their tokens, occur as often with each placebo as its passes say."""
    wanted, found = Counter(), Counter()
    for document, placebos in expected(corpus, plan, 0.4, seed).items():
        tokens = corpus.tokens(document, 0, int(corpus.lengths[document]))
        cuts = [*range(0, len(tokens), 12), len(tokens)]
        if cuts[-1] - cuts[-2] < 2:
            cuts[-2] -= 1
        own = int(corpus.sequence_ids[document])
        for start, stop in pairwise(cuts):
            for placebo in placebos:
                used = own if placebo is None else placebo
                on = placebo is not None or document in GOVERNED
                wanted[tuple(tokens[start:stop].tolist()), used, on, placebo is not None] += 1
    for piece in pieces(stream(corpus, plan, packed=packed, seed=seed)):
        for name in ("sequence_ids", "sink_mask", "sink_frozen"):
            assert len(set(piece[name].tolist())) == 1, "a chunk has one choice"
        assert (piece["sink_frozen"].dtype, piece["sequence_ids"].dtype) == (np.bool_, np.int64)
        facts = (int(piece["sequence_ids"][0]) & MASK, bool(piece["sink_mask"][0]), bool(piece["sink_frozen"][0]))
        found[(tuple(piece["input_ids"].tolist()), *facts)] += 1
    assert found == wanted
    assert any(frozen for *_, frozen in found)
    assert any(len(placebos) > 1 and len(set(placebos)) > 1 for placebos in expected(corpus, plan, 0.4, seed).values())


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_the_share_is_close_to_the_setting(corpus, share):
    plan = ExposurePlan.once(corpus).repeat(np.flatnonzero(~corpus.is_validation), 200)
    rows = stream(corpus, plan, placebo_share=share, max_length=200, packed=False)
    governed = {int(i) for i in corpus.sequence_ids[is_governed(corpus)].view(np.int64)}
    passes, frozen = Counter(), Counter()
    for piece in pieces(rows):
        on = bool(piece["sink_frozen"][0])
        if on or not piece["sink_mask"][0]:
            passes[on] += 1
        if on:
            frozen[int(piece["sequence_ids"][0])] += 1
    total = passes.total()
    assert total > 3000
    assert passes[True] / total == pytest.approx(share, abs=4 * (share * (1 - share) / total) ** 0.5)
    assert set(frozen) == governed
    assert min(frozen.values()) > 0.6 * max(frozen.values())


def test_exposures_and_all_else_stay(corpus, plan):
    changed = {"sequence_ids", "sink_mask", "sink_frozen"}
    with_placebos, without = stream(corpus, plan), stream(corpus, plan, placebo_share=0.0)
    assert len(with_placebos) == len(without)
    for i in range(len(without)):
        assert set(with_placebos[i]) == {*without[i], "sink_frozen"}
        for name in without[i].keys() - changed:
            assert np.array_equal(with_placebos[i][name], without[i][name]), name
        learning = ~with_placebos[i]["sink_frozen"]
        for name in ("sequence_ids", "sink_mask"):
            assert np.array_equal(with_placebos[i][name][learning], without[i][name][learning]), name
        assert not without[i]["sink_mask"][~learning].any(), "governed text is never frozen"


def test_without_governed_text_the_sinks_are_the_placebo_s(corpus, plan):
    nothing = np.zeros(len(corpus), dtype=bool)
    pad = int(to_tensor([PLACEBO_ID]))
    for piece in pieces(stream(corpus, plan, governed=nothing, placebo_share=1.0)):
        assert piece["sink_frozen"].all()
        assert set(piece["sequence_ids"].tolist()) == {pad}


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_shares_out_of_range(corpus, plan, share):
    with pytest.raises(InputError, match=r"placebo_share is .*between 0 and 1"):
        stream(corpus, plan, placebo_share=share)


def test_the_collator_takes_the_column_along(corpus, plan):
    rows = stream(corpus, plan)
    several = [rows[i] for i in range(5)]
    batch = Collator(0)(several)
    assert batch["sink_frozen"].dtype == torch.bool
    for i, row in enumerate(several):
        size = len(row["input_ids"])
        assert batch["sink_frozen"][i, :size].tolist() == row["sink_frozen"].tolist()
        assert not batch["sink_frozen"][i, size:].any()
    del several[1]["sink_frozen"]
    assert not Collator(0)(several)["sink_frozen"][1].any()
    plain = [{k: v for k, v in row.items() if k != "sink_frozen"} for row in several]
    assert "sink_frozen" not in Collator(0)(plain)
    several[0]["sink_frozen"] = several[0]["sink_frozen"][:-1]
    with pytest.raises(InputError, match="'sink_frozen' of a row has"):
        Collator(0)(several)
