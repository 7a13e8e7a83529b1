"""Novels as sources: who is trained on, held out and governed, under which IDs."""

from dataclasses import replace

import numpy as np
import pytest

from memsinks.errors import ConfigError
from memsinks.experiments.books import GENERAL, HELD_OUT_EVERY, NOVELS, BookLab, book_text
from memsinks.experiments.per_source import METHODS, retrained
from memsinks.experiments.sizes import BOOKS
from memsinks.experiments.story_arms import STANDARD, UNSEEN_STEPS
from memsinks.ids import source_id
from memsinks.runs.build import plan_run
from memsinks.stream import build_stream

SMOKE = BOOKS["smoke"]


@pytest.fixture(scope="module")
def labs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("books")
    return {key: BookLab(SMOKE, 0, folder / key, key, progress=False) for key in ("source", "topic")}


@pytest.fixture(scope="module")
def lab(labs):
    return labs["source"]


def planned(lab):
    """Every arm's plan, but those of the other kind of key."""
    arms = [STANDARD, UNSEEN_STEPS, *(retrained(lab, book) for book in SMOKE.books)]
    return {arm.name: lab.plan(arm).counts for arm in [*arms, *(m.arm(lab) for m in METHODS if m.key == "source")]}


def test_every_fifth_chapter_is_held_out_in_reading_order(lab):
    for book in SMOKE.books:
        numbers = np.sort(np.concatenate([lab.text.chapters[book], lab.text.held_out[book]]))
        assert lab.text.held_out[book].tolist() == numbers[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY].tolist()
        assert {lab.text.corpus.documents[i].partition("/")[0] for i in numbers} == {book}


def test_held_out_text_is_never_planned(lab):
    held = np.concatenate(list(lab.text.held_out.values()))
    assert len(held) >= len(SMOKE.books)
    for counts in planned(lab).values():
        assert not counts[held].any()
        assert not counts[lab.text.corpus.is_validation].any()


def test_every_governed_document_has_the_id_of_its_source(labs):
    for key, lab in labs.items():
        corpus, text = lab.text.corpus, lab.text
        name = {b: b if key == "source" else NOVELS[b].topic for b in SMOKE.books}
        numbers = {b: np.concatenate([text.chapters[b], text.held_out[b]]) for b in SMOKE.books}
        for book in SMOKE.books:
            assert set(corpus.sequence_ids[numbers[book]].tolist()) == {source_id(name[book])}
        ids = {source_id(k) for k in text.keys}
        assert ids == {source_id(n) for n in name.values()}
        for method in METHODS:
            if method.key == key:
                governed = plan_run(lab.config(replace(method.arm(lab), start=None))).text.governed
                assert set(np.flatnonzero(governed)) == set(np.concatenate(list(numbers.values())))
                assert set(corpus.sequence_ids[governed].tolist()) == ids
                assert not ids & set(corpus.sequence_ids[~governed].tolist())


def test_topics_group_novels_and_change_nothing_else(labs):
    source, topic = (labs[key].text for key in ("source", "topic"))
    assert topic.keys == {"the fantastic": ("frankenstein", "alice_in_wonderland"), "journeys": ("huckleberry_finn",)}
    assert source.keys == {book: (book,) for book in SMOKE.books}
    assert source.corpus.documents == topic.corpus.documents
    assert all(np.array_equal(source.corpus.tokens(i), topic.corpus.tokens(i)) for i in range(len(source.corpus)))


def test_plans_differ_in_what_is_trained_on_and_not_in_steps(lab):
    text, counts = lab.text, planned(lab)
    everything = text.governed()
    assert set(counts["standard"][everything]) == {SMOKE.exposures}
    assert not counts["unseen_steps"][everything].any()
    for book in SMOKE.books:
        one = counts[f"without_{book}"]
        assert not one[text.chapters[book]].any()
        assert set(one[text.governed([b for b in SMOKE.books if b != book])]) == {SMOKE.exposures}
        assert (one[text.general] == 1).all()
    for name in ("by_source", "by_source_own_rows", "routing"):
        assert (counts[name] == counts["standard"]).all()
    assert set(np.flatnonzero(counts["sinks_after"])) == set(everything)
    arms = [STANDARD, UNSEEN_STEPS, retrained(lab, "frankenstein"), *(m.arm(lab) for m in METHODS if not m.after)]
    assert len({lab.config(arm).schedule.steps for arm in arms if arm.name != "by_topic"}) == 1


def test_what_is_measured_are_rows_as_they_are_trained(lab):
    text = lab.text
    governed = np.zeros(len(text.corpus), dtype=bool)
    stream = build_stream(
        text.corpus, lab.plan(STANDARD), seed=0, max_length=SMOKE.max_length, packed=False, governed=governed
    )
    rows = {tuple(stream[i]["input_ids"].tolist()) for i in range(len(stream))}
    assert set(text.sets()) == {GENERAL} | {f"{book}/{part}" for book in SMOKE.books for part in ("train", "held_out")}
    for name, passages in text.sets().items():
        trained = [tuple(p.tokens.tolist()) in rows for p in passages]
        assert all(trained) if name.endswith("train") else not any(trained)
        assert 2 <= len(passages) <= (3 if name == GENERAL else 1) * SMOKE.measured
        if name != GENERAL:
            assert {p.sequence_id for p in passages} == {source_id(name.partition("/")[0])}
            assert all(p.name.startswith(name.partition("/")[0] + "/") for p in passages)


def test_a_seed_draws_other_general_text_and_the_same_chapters(lab, tmp_path):
    other = book_text(SMOKE, 1, tmp_path / "corpus", "source")
    names = [{t.corpus.documents[i] for i in t.general} for t in (lab.text, other)]
    assert names[0] != names[1]
    assert [lab.text.corpus.documents[i] for i in lab.text.governed()] == [
        other.corpus.documents[i] for i in other.governed()
    ]


def test_the_corpus_of_another_key_or_split_is_not_taken_for_this_one(lab, tmp_path):
    folder = tmp_path / "corpus"
    first = book_text(SMOKE, 0, folder, "source")
    written = (folder / "manifest.json").stat().st_mtime_ns
    assert book_text(SMOKE, 0, folder, "source").corpus.hash == first.corpus.hash
    assert (folder / "manifest.json").stat().st_mtime_ns == written
    assert book_text(SMOKE, 0, folder, "topic").corpus.hash != first.corpus.hash


def test_an_adapter_has_about_as_many_weights_as_a_source_has_sinks():
    for setting in BOOKS.values():
        linear = 4 * 2 * setting.hidden + 3 * (setting.hidden + setting.width)
        assert setting.lora_rank * linear == pytest.approx(3 * setting.active * setting.hidden, rel=0.3)


def test_settings_that_do_not_fit_are_told(tmp_path):
    with pytest.raises(ConfigError, match="no novel 'ulysses'; choose from"):
        replace(SMOKE, books=("frankenstein", "ulysses"))
    with pytest.raises(ConfigError, match="retrained='dracula' is not among books"):
        replace(SMOKE, retrained=("dracula",))
    with pytest.raises(ConfigError, match="leaves 1 chapters of frankenstein, too few"):
        book_text(replace(SMOKE, book_characters=600), 0, tmp_path / "corpus", "source")
    with pytest.raises(ConfigError, match="leave no general text"):
        book_text(replace(SMOKE, general_characters=10), 0, tmp_path / "corpus", "source")
