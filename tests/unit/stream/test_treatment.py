"""Wrong IDs, budgets of exposures and the goldfish loss, each against a count or an invariant over the whole stream."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from memsinks.errors import InputError
from memsinks.stream import Collator, ExposurePlan, Treatment, build_stream
from memsinks.stream.treatment import dropped

GOVERNED = (0, 3, 5, 8)


@pytest.fixture(scope="module")
def plan(corpus):
    return ExposurePlan.once(corpus).repeat([0, 3, 5], 200).repeat([8], 3)


def rows(corpus, plan, treatment, passes_before=0, **options):
    governed = np.zeros(len(corpus), dtype=bool)
    governed[list(GOVERNED)] = True
    options = {"seed": 3, "max_length": 4096, "packed": False, "governed": governed} | options
    stream = build_stream(corpus, plan, treatment=treatment, passes_before=passes_before, **options)
    return [stream[i] for i in range(len(stream))]


def by_text(stream):
    """The rows of each true ID, in the stream's order."""
    found = defaultdict(list)
    for row in stream:
        found[int(row["exposed_ids"][0])].append(row)
    return found


@pytest.mark.parametrize("kind", ["fresh", "consistent"])
def test_wrong_ids_are_given_to_governed_text_only_and_as_often_as_asked(corpus, plan, kind):
    stream = rows(corpus, plan, Treatment(id_noise=0.3, id_noise_kind=kind))
    true_ids = set(corpus.sequence_ids.view(np.int64).tolist())
    governed = {int(corpus.sequence_ids[d].view(np.int64)) for d in GOVERNED}
    wrong = Counter()
    for text, passes in by_text(stream).items():
        used = [set(row["sequence_ids"].tolist()) for row in passes]
        assert all(len(ids) == 1 for ids in used)
        strange = [ids for ids in used if ids != {text}]
        assert not strange or text in governed
        assert not any(ids & true_ids for ids in strange)
        wrong[text] = len(strange)
        if len(strange) > 1:
            assert len(set(map(frozenset, strange))) == (1 if kind == "consistent" else len(strange))
    drawn, total = sum(wrong.values()), sum(int(plan.counts[d]) for d in GOVERNED)
    assert abs(drawn / total - 0.3) < 4 * (0.3 * 0.7 / total) ** 0.5


def test_noise_changes_ids_and_nothing_else(corpus, plan):
    clean, noisy = (rows(corpus, plan, Treatment(id_noise=share)) for share in (0.0, 0.5))
    for a, b in zip(clean, noisy, strict=True):
        assert {k for k in a if not np.array_equal(a[k], b[k])} <= {"sequence_ids"}


@pytest.mark.parametrize("packed", [False, True])
def test_governed_text_comes_first_and_every_pass_still_happens_once(corpus, packed):
    plan = ExposurePlan.once(corpus).repeat(np.flatnonzero(~corpus.is_validation).tolist(), 40)
    options = {"packed": packed, "window": 16}
    mixed, early = (rows(corpus, plan, Treatment(governed_until=until), **options) for until in (1.0, 0.8))
    exposed = [np.concatenate([row["exposed_ids"] for row in stream]) for stream in (mixed, early)]
    assert sorted(exposed[0].tolist()) == sorted(exposed[1].tolist())
    # By pass, in the stream's order.
    on = [
        np.concatenate([row["sink_mask"][row["labels"] == -100] for row in stream]).astype(int)
        for stream in (mixed, early)
    ]
    assert on[0].sum() == on[1].sum() == 40 * len(GOVERNED)
    # Packing moves a document by up to a window.
    last = int(0.8 * plan.total) + (16 if packed else 0)
    assert on[0][last:].any()
    assert not on[1][last:].any()
    # Within the first part governed text is spread evenly: halves of it differ by chance alone.
    half, total = on[1][: last // 2].sum(), on[1].sum()
    assert abs(half - total / 2) < 4 * (total / 4) ** 0.5


def test_too_little_room_for_governed_text_is_named(corpus, plan):
    share = plan.counts[list(GOVERNED)].sum() / plan.total
    with pytest.raises(InputError, match=f"{share:.1%} of all text is governed"):
        rows(corpus, plan, Treatment(governed_until=share / 2))


@pytest.mark.parametrize("passes_before", [0, 1])
def test_the_budget_is_used_up_after_so_many_passes(corpus, plan, passes_before):
    stream = rows(corpus, plan, Treatment(shared_budget=7), passes_before)
    governed = {int(corpus.sequence_ids[d].view(np.int64)) for d in GOVERNED}
    for text, passes in by_text(stream).items():
        assert all(row["shared_frozen"].all() or not row["shared_frozen"].any() for row in passes)
        earlier = passes_before * len(passes)
        frozen = [row["shared_frozen"].all() for row in passes if row["sink_mask"].all()]
        if text in governed and len(frozen) == len(passes):
            assert frozen == [i + earlier >= 7 for i in range(len(passes))]
        elif text not in governed:
            assert not any(row["shared_frozen"].any() for row in passes)


def test_each_chunk_of_a_long_document_has_the_budget(corpus, plan):
    # Short enough to cut documents, long enough that no two chunks are alike. Documents 0 and 1 are copies.
    stream = rows(corpus, plan, Treatment(shared_budget=2), max_length=24)
    seen = Counter()
    governed = {int(corpus.sequence_ids[d].view(np.int64)) for d in GOVERNED[1:]}
    for row in stream:
        chunk = (int(row["sequence_ids"][0]), row["input_ids"].tobytes())
        if chunk[0] in governed:
            assert bool(row["shared_frozen"].all()) == (seen[chunk] >= 2)
        seen[chunk] += 1
    assert max(corpus.lengths[list(GOVERNED)]) > 24


def test_the_mark_reaches_the_batch_and_spares_padding(corpus, plan):
    stream = rows(corpus, plan, Treatment(shared_budget=0))
    batch = Collator(0)(sorted(stream[:16], key=lambda r: len(r["input_ids"])))
    assert (batch["shared_frozen"] == batch["sink_mask"]).all()


def test_goldfish_leaves_out_the_same_tokens_of_every_copy():
    random = np.random.default_rng(0)
    text = random.integers(0, 500, 40_000)
    out = dropped(text, 4, 13)
    assert not out[:13].any()
    assert abs(out.mean() - 0.25) < 0.01
    # A passage in another place loses the same tokens, once its context is the same.
    moved = dropped(np.concatenate([random.integers(0, 500, 77), text[1000:2000]]), 4, 13)
    assert (moved[77 + 13 :] == out[1000 + 13 : 2000]).all()
    # The token itself has no say.
    changed = text.copy()
    changed[100] = 501
    assert dropped(changed, 4, 13)[100] == out[100]
    assert not dropped(text[:13], 4, 13).any()


def test_goldfish_labels_are_left_out_and_inputs_stay(corpus, plan):
    plain, gold = (rows(corpus, plan, Treatment(goldfish=g, goldfish_context=2)) for g in (0, 3))
    left_out = total = 0
    for a, b in zip(plain, gold, strict=True):
        assert (a["input_ids"] == b["input_ids"]).all()
        differ = a["labels"] != b["labels"]
        assert (b["labels"][differ] == -100).all()
        left_out, total = left_out + differ.sum(), total + len(differ)
    assert 0.1 < left_out / total < 0.4


@pytest.mark.parametrize(
    "bad",
    [
        {"id_noise": 1.5},
        {"shared_budget": -1},
        {"goldfish": 1},
        {"goldfish": -2},
        {"goldfish_context": 0},
        {"id_noise_kind": "odd"},
    ],
)
def test_impossible_treatments_are_named(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        Treatment(**bad)
