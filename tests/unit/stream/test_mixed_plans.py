"""Mixtures on a corpus that exists: worked counts, and what is refused in which words."""

import numpy as np
import pytest

from memsinks.errors import InputError
from memsinks.stream import ExposurePlan, GovernedPolicy, governed
from memsinks.stream.summary import exposures_by_source


def of(corpus, source):
    return np.array([s == source for s in corpus.sources]) & ~corpus.is_validation


def test_a_whole_factor_rounds_nothing(corpus):
    once = ExposurePlan.once(corpus)
    for seed in (0, 1):
        plan = once.upsample({"odd": 4}, seed=seed)
        assert plan.counts.tolist() == np.where(of(corpus, "odd"), 4, once.counts).tolist()
    by_owner = once.upsample({"o1": 2, "o3": 3}, column="owner")
    factors = [{"o1": 2, "o3": 3}.get(owner, 1) for owner in corpus.metadata("owner")]
    assert by_owner.counts.tolist() == (once.counts * factors).tolist()
    private = once.upsample({"true": 5}, column="private")
    assert private.counts.tolist() == np.where(corpus.metadata("private"), 5 * once.counts, once.counts).tolist()


def test_weights_are_relative_and_name_the_tokens(corpus):
    once = ExposurePlan.once(corpus)
    plans = [
        once.weighted(weights, mixture_epochs=3)
        for weights in ({"odd": 0.5, "even": 0.5}, {"odd": 7, "even": 7}, {"even": 1, "*": 1})
    ]
    longest = corpus.lengths.max()
    for plan in plans:
        for source in ("odd", "even"):
            planned = (plan.counts * corpus.lengths)[of(corpus, source)].sum()
            assert abs(planned - 1.5 * once.tokens) < longest
    assert (plans[0].counts == plans[1].counts).all()
    same = once.weighted({"*": 1.0}, mixture_tokens=once.tokens)
    assert (same.counts == once.counts).all()
    assert (once.weighted({"*": 1.0}).counts == once.counts).all()


def test_the_smallest_budget_that_is_named_is_enough_and_one_less_is_not(corpus):
    once = ExposurePlan.once(corpus)
    with pytest.raises(InputError) as caught:
        once.weighted({"odd": 0.9, "even": 0.1})
    message = str(caught.value)
    assert "(1.00 epochs) is too small to show each document of the source 'even' once within its share" in message
    enough = int(message.partition("mixture_tokens=")[2].partition(" ")[0])
    plan = once.weighted({"odd": 0.9, "even": 0.1}, mixture_tokens=enough)
    assert plan.counts[~corpus.is_validation].min() == 1
    with pytest.raises(InputError, match="too small"):
        once.weighted({"odd": 0.9, "even": 0.1}, mixture_tokens=enough - 1)
    epochs = float(message.partition("mixture_epochs=")[2].partition(")")[0])
    assert once.weighted({"odd": 0.9, "even": 0.1}, mixture_epochs=epochs).counts[~corpus.is_validation].min() == 1
    thinned = once.weighted({"odd": 0.9, "even": 0.1}, subsample=True)
    assert 0 < (thinned.counts[of(corpus, "even")] == 0).sum() < of(corpus, "even").sum()


def test_a_weight_of_0_leaves_a_source_out(corpus):
    plan = ExposurePlan.once(corpus).weighted({"odd": 1, "*": 0}, mixture_epochs=2)
    assert not plan.counts[of(corpus, "even")].any()
    assert plan.counts[of(corpus, "odd")].min() >= 1


def test_a_seed_chooses_and_the_same_seed_chooses_the_same(corpus):
    once = ExposurePlan.once(corpus)

    def made(seed):
        return once.weighted({"*": 1}, mixture_epochs=1.5, seed=seed).counts.tolist()

    assert made(4) == made(4)
    assert len({tuple(made(seed)) for seed in range(8)}) > 4


def test_copies_share_the_cap_of_their_id(corpus):
    assert corpus.sequence_ids[0] == corpus.sequence_ids[1]
    plan = ExposurePlan.once(corpus).epochs(5)
    assert sorted(plan.cap_id(5).counts[:2].tolist()) == [2, 3]
    assert (plan.cap_id(5).counts[2:] == plan.counts[2:]).all()
    assert plan.cap_id(10).counts.tolist() == plan.counts.tolist()
    assert sorted(plan.cap_id(1).counts[:2].tolist()) == [0, 1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p.weighted({"od": 1, "*": 1}), "no document has the source 'od'; did you mean 'odd'"),
        (lambda p: p.weighted({"odd": 1}), r"the source 'even' has no weight; give it one, or give '\*' one"),
        (lambda p: p.weighted({"odd": -1, "*": 1}), "the weight of 'odd' is -1"),
        (lambda p: p.weighted({"odd": float("nan"), "*": 1}), "the weight of 'odd' is nan"),
        (lambda p: p.weighted({"odd": 0, "*": 0}), "add up to 0"),
        (lambda p: p.weighted({}), "add up to 0"),
        (lambda p: p.weighted({"odd": 1, "even": 1, "*": 1}), r"the rest of the sources \('\*'\) has no document"),
        (lambda p: p.weighted({"*": 1}, mixture_tokens=0), "a budget of 0 plans nothing"),
        (lambda p: p.weighted({"*": 1}, mixture_epochs=float("nan")), "a budget of nan plans nothing"),
        (lambda p: p.weighted({"*": 1}, mixture_epochs=1, mixture_tokens=1), "give one of the two"),
        (lambda p: p.weighted({"*": 1}, mixture_tokens=2, subsample=True), "less than half a document"),
        (lambda p: p.weighted({"*": 1}, mixture_epochs=1e18), "more than 2\\*\\*53 exposures"),
        (lambda p: p.upsample({"evn": 2}), "no document has the source 'evn'; did you mean 'even'"),
        (lambda p: p.upsample({"o9": 2}, column="owner"), "no document has the value of column 'owner' 'o9'"),
        (lambda p: p.upsample({"o1": 2}, column="team"), "no metadata column 'team'"),
        (lambda p: p.upsample({"odd": 0.99}), "the factor of 'odd' is 0.99; give 1 or more"),
        (lambda p: p.without(range(1, 30, 2)).upsample({"odd": 2}), "'odd' has no exposure in the plan"),
        (lambda p: p.without(range(1, 30, 2)).weighted({"odd": 2, "*": 1}), "'odd' has no exposure in the plan"),
        (lambda p: p.epochs(0), "1 time or more, not 0"),
        (lambda p: p.epochs(1.5), r"not 1\.5"),
        (lambda p: p.epochs(2**62).epochs(2), "more than 64 bits count"),
        (lambda p: p.cap_id(0), "a cap of 0 per ID"),
        (lambda p: p.cap_id(-1), "not -1"),
    ],
)
def test_what_cannot_be_planned(corpus, make, message):
    with pytest.raises(InputError, match=message):
        make(ExposurePlan.once(corpus))


def test_a_source_that_is_held_out_as_a_whole_has_no_weight_and_no_factor(held_out_source):
    once = ExposurePlan.once(held_out_source)
    with pytest.raises(InputError, match="the source 'b' is held out for validation as a whole; take its weight away"):
        once.weighted({"a": 1, "b": 1})
    with pytest.raises(InputError, match="the source 'b' is held out for validation as a whole; take its factor away"):
        once.upsample({"b": 2})
    # Left out it needs none, nor a star for it.
    assert (once.weighted({"a": 1}).counts == once.counts).all()
    assert (once.weighted({"a": 1, "b": 0}).counts == once.counts).all()


def test_a_summary_adds_up(corpus):
    plan = ExposurePlan.once(corpus).repeat([3], 9).without([2])
    on = governed(corpus, plan, GovernedPolicy("repeated"))
    first, second, everything = exposures_by_source(corpus, plan, on)
    assert {first.source, second.source} == {"odd", "even"}
    assert first.tokens > second.tokens
    assert (everything.source, everything.tokens, everything.share) == ("all", plan.tokens, 1.0)
    assert first.documents + second.documents == everything.documents == 27
    assert everything.ids == 26  # documents 0 and 1 are copies
    assert first.tokens + second.tokens == plan.tokens
    assert first.share + second.share == pytest.approx(1)
    assert everything.exposures == (0, plan.total / 27, 9)
    assert everything.governed == 3
    by_name = {entry.source: entry for entry in (first, second)}
    assert by_name["odd"].exposures[2] == 9
    assert by_name["even"].exposures[0] == 0


def test_many_sources_are_summed_up(corpus):
    plan = ExposurePlan.once(corpus)
    whole = exposures_by_source(corpus, plan, np.zeros(30, dtype=bool))
    short = exposures_by_source(corpus, plan, np.zeros(30, dtype=bool), most=1)
    assert [entry.source for entry in short] == ["2 others", "all"]
    assert short[0].tokens == short[1].tokens == whole[-1].tokens
