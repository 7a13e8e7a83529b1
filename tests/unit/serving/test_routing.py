"""From a prompt to a source, or to none; never to one that was removed or is denied."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memsinks.checkpoint.lineage import Removal
from memsinks.errors import ConfigError, InputError
from memsinks.runs.lineage import lineage_of
from memsinks.serving.guard import Guard
from memsinks.serving.passages import PASSAGE_WORDS, Passage, read_passages, words_of
from memsinks.serving.routing import Route, Router, choose
from memsinks.sinks.modes import OFF, Mode

K1, B = 1.5, 0.75
THREE = {"a": "the whale swam", "b": "the whale and the ship", None: "a garden party, not the sea"}
MEAN = 14 / 3
"""Words of one of them."""


def passage(text, source=None, number=None, document=""):
    return Passage(tuple(words_of(text)), source, number, document)


def router_of(texts, **options):
    """One passage each, numbered from 1."""
    made = [passage(text, source, i) for i, (source, text) in enumerate(texts.items(), start=1)]
    return Router(made, **{"threshold": 0.0} | options)


def idf(count, of=3):
    return math.log(1 + (of - count + 0.5) / (count + 0.5))


def tf(count, length):
    return count / (count + K1 * (1 - B + B * length / MEAN))


def test_scores_are_those_of_the_formula_by_hand():
    # Each word of a prompt counts once, whatever its case, and one that is nowhere counts as the rarest.
    terms = idf(3) + idf(2) + idf(1) + idf(0)
    a = (idf(3) * tf(1, 3) + idf(2) * tf(1, 3) + idf(1) * tf(1, 3)) / terms
    b = (idf(3) * tf(2, 5) + idf(2) * tf(1, 5)) / terms
    none = idf(3) * tf(1, 6) / terms
    route = router_of(THREE).route("The whale, WHALE! swam: nowhere?")
    assert (route.source, route.runner_up) == ("a", "b")
    assert route.score == pytest.approx(a - none)
    assert route.margin == pytest.approx(a - b)


def test_without_text_of_no_source_the_runner_up_is_what_a_source_has_to_surpass():
    texts = {source: text for source, text in THREE.items() if source}
    route = router_of(texts).route("whale swam")
    assert route.source == "a"
    assert route.score == route.margin > 0
    # One that is left alone by an exclusion has nothing to surpass any more.
    assert router_of(texts, excluded=lambda: {2}).route("whale swam") == Route(None)
    assert router_of(THREE, excluded=lambda: {2}).route("whale swam").source == "a"


def test_text_of_no_source_keeps_what_is_like_it_from_a_source():
    texts = {"a": "the whale swam", None: "the whale swam far"}
    assert router_of(texts).route("the whale swam").source == "a"
    found = router_of(texts).route("the whale swam far")
    assert found.source is None
    assert found.score < 0


@pytest.mark.parametrize(
    ("texts", "score"),
    [
        (["whale one"], 0.4),
        (["whale one", "whale two"], 0.4),
        (["whale one", "whale two", "ship one"], 0.4 * 2 / 3),
        (["whale one", "whale two", "ship one", "ship two"], 0.4 * 2 / 3),
        (["whale one", "whale two", "whale three", "whale four", "ship one"], 0.4),
    ],
)
def test_a_source_is_as_good_as_its_three_best_passages(texts, score):
    # All passages have the mean length, so one that has the word scores 1 / (1 + k1) of what it could.
    router = Router([*(passage(text, "a", 1) for text in texts), passage("garden path")], threshold=0.0)
    assert router.route("whale").score == pytest.approx(score)


def test_the_score_has_to_be_above_the_threshold():
    score = router_of(THREE).route("whale swam").score
    assert router_of(THREE, threshold=score - 1e-9).route("whale swam").source == "a"
    at = router_of(THREE, threshold=score).route("whale swam")
    assert at == Route(None, score, at.margin, "b")


@pytest.mark.parametrize("prompt", ["", "?!", "nothing known here"])
def test_a_prompt_like_nothing_is_routed_nowhere(prompt):
    assert router_of(THREE).route(prompt) == Route(None)


def test_the_end_of_a_long_prompt_counts():
    router = router_of(THREE)
    assert router.route("ship and " * PASSAGE_WORDS + "whale swam " * (PASSAGE_WORDS // 2)).source == "a"
    assert router.route("whale swam " * PASSAGE_WORDS + "ship and " * (PASSAGE_WORDS // 2)).source == "b"


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_of_sources_that_score_alike_the_first_by_name_is_taken(order):
    router = router_of(dict.fromkeys(order, "the same text") | {None: "other text"})
    found = router.route("the same text")
    assert (found.source, found.margin, found.runner_up) == ("a", 0.0, "b")


def test_nothing_is_routed_while_it_is_not_known_what_is_excluded():
    assert router_of(THREE, excluded=lambda: None).route("whale swam") == Route(None)
    with pytest.raises(InputError, match="not known which sources"):
        Router.of(None, [], excluded=lambda: None)


def test_without_a_source_there_is_nothing_to_route_to():
    for found in ([passage("text of nobody")], [passage("text of a", "a", 1)]):
        with pytest.raises(InputError, match="two kinds of text to compare"):
            Router(found, threshold=0.0)


TEXTS = {f"s{i}": f"common words and rare{i} other{i} of this one" for i in range(4)}
TRAINED = {source: {10 * i + 1, 10 * i + 2} for i, source in enumerate(TEXTS)}
IDS = sorted(set().union(*TRAINED.values()))
ALL = [passage(f"{TEXTS[s]} part{n}", s, n) for s, ids in TRAINED.items() for n in sorted(ids)]
PROMPTS = [*TEXTS.values(), *(" ".join(p.words) for p in ALL), "common words"]
NONE = passage("common words of nobody")


def names():
    return SimpleNamespace(sources={s: frozenset(ids) for s, ids in TRAINED.items()}, documents={})


@given(st.sets(st.sampled_from(IDS)), st.sets(st.sampled_from(IDS)), st.sampled_from(PROMPTS))
def test_no_prompt_gets_a_removed_or_denied_source(before, after, prompt):
    """Removed before the index is made, in which it is not, and after, when it still is."""
    now = set(before)
    kept = [p for p in ALL if p.sequence_id not in before]
    if not kept:
        return
    router = Router([*kept, NONE], excluded=lambda: now, threshold=0.0)
    guard = Guard(IDS, excluded=lambda: now, names=names())
    now |= after
    gone = {source for source, ids in TRAINED.items() if ids <= now}
    route, mode = choose(router, guard, prompt)
    assert route.source not in gone
    assert route.runner_up not in gone
    assert (mode == OFF) == (route.source is None)
    assert not set(mode.ids) & now
    if route.source is not None:
        assert set(mode.ids) == TRAINED[route.source] - now
    # A prompt of a source that is left has a word that no other text has.
    own = [source for source, text in TEXTS.items() if text == prompt and source not in gone]
    if own:
        assert route.source == own[0]


def test_the_guard_has_the_last_word():
    """A router that was not told, for whatever reason, does not switch on what the guard refuses."""
    router = Router([*ALL, NONE], threshold=0.0)
    for excluded in (TRAINED["s1"], None):
        guard = Guard(IDS, excluded=lambda excluded=excluded: excluded, names=names())
        assert router.route(TEXTS["s1"]).source == "s1"
        route, mode = choose(router, guard, TEXTS["s1"])
        assert (route.source, mode) == (None, OFF)
    assert choose(router, Guard(IDS, excluded=frozenset, names=names(), max_ids=1), TEXTS["s1"])[1] == OFF
    assert choose(router, Guard(IDS, excluded=frozenset, names=names()), TEXTS["s1"])[1] == Mode(
        "chosen", tuple(TRAINED["s1"])
    )


def drawn(seed, count, length, source=None):
    """Documents of words, of which some are common; the rarer ones of a source are its own."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, 4001)
    words = [f"w{i}" if source is None or i < 400 else f"{source}{i}" for i in range(4000)]
    return [
        passage(" ".join(rng.choice(words, length, p=weights / weights.sum())), source, seed, str(d))
        for d in range(count)
    ]


PIECES = ((0, 8), (8, 24), (24, 56), (56, 120))


def routed(router, passages):
    prompts = [" ".join(p.words[start:stop]) for p in passages for start, stop in PIECES]
    return sum(router.route(prompt).source is not None for prompt in prompts) / len(prompts)


@pytest.mark.parametrize("seed", range(3))
def test_one_in_twenty_prompts_of_no_source_is_routed_at_the_default_threshold(seed):
    of_source, of_none = drawn(seed, 30, 150, "a"), drawn(seed + 10, 60, 150)
    router = Router([*of_source, *of_none])
    # The first document of no source is in the index, the second is one that the threshold is chosen by, and so on.
    share = routed(router, of_none[1::2])
    assert share <= 0.05
    assert router.threshold == 0 or share >= 0.02
    assert routed(router, of_source) > 0.9
    assert routed(router, of_none[::2]) <= 0.02


@pytest.mark.parametrize(("place", "in_index"), [(0, True), (1, False), (2, True), (3, False)])
def test_the_threshold_is_chosen_by_documents_that_the_index_lacks(place, in_index):
    of_none = drawn(0, 20, 150)
    of_none[place : place + 1] = [passage("whale song", document=str(place))] * 3
    found = Router([passage("whale song", "a", 1), *of_none]).route("whale song")
    assert found.margin > 0
    assert found.score == (0 if in_index else found.margin)


def test_without_text_of_no_source_each_source_stands_for_it():
    texts = {source: drawn(seed, 20, 150, source) for seed, source in enumerate("abc")}
    router = Router([p for found in texts.values() for p in found])
    for left_out, found in texts.items():
        others = [p for source, own in texts.items() if source != left_out for p in own]
        assert routed(Router(others, threshold=router.threshold), found) < 0.15
    assert routed(router, texts["a"]) > 0.9


def test_too_little_text_to_choose_a_threshold_by_is_an_error():
    for few in ([ALL[0], NONE], ALL[:4]):
        with pytest.raises(ConfigError, match="prompts to choose a threshold of routing by, and 20 are needed"):
            Router(few)
    assert Router(ALL[:4], threshold=0.0).threshold == 0


def test_passages_are_of_surviving_training_text(loud, corpus):
    lineage = lineage_of(loud)
    cedar = {int(corpus.sequence_ids[corpus.index(f"cedar-{i}")]) for i in range(5)}
    all_of_it = read_passages(lineage, [corpus.path], excluded=frozenset())
    left = read_passages(lineage, [corpus.path], excluded=cedar)
    assert {p.source for p in all_of_it} == {"ashford", "birch", "cedar", None}
    # What is held out is not read, and text of a publisher is never text of no source.
    assert {p.document for p in all_of_it if p.source is None} == {f"web-{i}" for i in range(18, 60)}
    assert {p.document for p in all_of_it if p.source} == {
        f"{s}-{i}" for s in ("ashford", "birch", "cedar") for i in range(5)
    }
    assert left == [p for p in all_of_it if p.sequence_id not in cedar]
    for found in all_of_it:
        assert list(found.words) == words_of(corpus.text(corpus.index(found.document)))[:PASSAGE_WORDS]


def test_removed_text_is_not_read_as_text_of_no_source(loud, corpus):
    """A training that goes on leaves removed text out, also where the corpus gives it other IDs than those removed."""
    lineage, place = lineage_of(loud), corpus.index("web-20")
    removal = Removal(
        id="r", time="t", everything=False, ids=1, documents=1, before="b", after="a", plan="p", ledger=None
    )
    gone = lineage.with_removal(removal, np.array([7], np.uint64), corpus.content_ids[place : place + 1])
    before, after = (read_passages(own, [corpus.path], excluded={7}) for own in (lineage, gone))
    assert after == [passage for passage in before if passage.document != "web-20"] != before


def test_no_source_has_more_than_its_share_and_it_is_spread(loud, corpus):
    found = read_passages(lineage_of(loud), [corpus.path], excluded=frozenset(), per_source=2, of_no_source=3)
    assert [p.document for p in found if p.source == "birch"] == ["birch-0", "birch-4"]
    assert [p.document for p in found if p.source is None] == ["web-18", "web-38", "web-59"]
