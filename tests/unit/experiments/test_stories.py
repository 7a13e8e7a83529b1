"""The story settings: who is repeated, held out, seen once; and canaries."""

from dataclasses import replace

import numpy as np
import pytest

from memsinks.audit import DocumentExtraction, ExtractionResult
from memsinks.corpus import Columns, read_documents
from memsinks.data import story_file
from memsinks.errors import ConfigError, InputError
from memsinks.experiments.sizes import CANARIES, STORIES
from memsinks.experiments.stories import StoryLab, StorySetting, story_text
from memsinks.experiments.story_arms import DEDUPLICATED, STANDARD, UNSEEN_STEPS, capped

SMOKE = STORIES["smoke"]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return StoryLab(SMOKE, 0, tmp_path_factory.mktemp("lab"), progress=False)


def test_roles_are_apart_and_as_many_as_asked(lab):
    text = lab.text
    roles = [set(text.repeated), set(text.once), set(text.validation)]
    assert [len(r) for r in roles] == [SMOKE.repeated, SMOKE.once, SMOKE.validation]
    assert not roles[0] & roles[1]
    assert len(set.union(*roles)) == len(text.corpus)
    assert set(np.flatnonzero(text.corpus.is_validation)) == roles[2]
    assert (text.corpus.lengths[text.repeated] <= SMOKE.max_length).all()


def test_settings_of_a_large_model_reach_the_run_file(lab, tmp_path, monkeypatch):
    monkeypatch.setattr("memsinks.experiments.lab.compiler_found", lambda: True)
    setting = replace(SMOKE, compile=True, checkpoint_every=0, micro_batch_size=2)
    small, large = (StoryLab(s, 0, tmp_path, progress=False).config(STANDARD) for s in (SMOKE, setting))
    reached = [(c.precision.compile, c.checkpoints.every_steps, c.schedule.micro_batch_size) for c in (small, large)]
    assert reached == [(False, None, None), (True, 0, 2)]


@pytest.mark.parametrize("found", [True, False])
def test_arms_compile_layers_only_where_there_is_a_compiler(tmp_path, monkeypatch, found):
    monkeypatch.setattr("memsinks.experiments.lab.compiler_found", lambda: found)
    config = StoryLab(replace(SMOKE, compile=True), 0, tmp_path, progress=False).config(STANDARD)
    assert config.precision.compile is found


def test_an_arm_counts_however_its_steps_were_divided(lab, monkeypatch):
    lab.measured(DEDUPLICATED)
    first = lab.measured(DEDUPLICATED).data
    monkeypatch.setattr(lab, "setting", replace(SMOKE, micro_batch_size=2))
    assert lab.measured(DEDUPLICATED).data == first
    monkeypatch.setattr(lab, "setting", replace(SMOKE, learning_rate=1e-3))
    assert lab.measured(DEDUPLICATED).data["fingerprint"] != first["fingerprint"]


def test_a_seed_chooses_other_stories(lab, tmp_path):
    other = story_text(SMOKE, 1, tmp_path / "corpus")
    names = [{t.corpus.documents[i] for i in t.repeated} for t in (lab.text, other)]
    assert len(names[0] & names[1]) < SMOKE.repeated


def test_the_same_choice_is_kept(lab):
    written = (lab.directory / "corpus" / "manifest.json").stat().st_mtime_ns
    again = StoryLab(SMOKE, 0, lab.directory, progress=False)
    assert (lab.directory / "corpus" / "manifest.json").stat().st_mtime_ns == written
    assert again.text.corpus.hash == lab.text.corpus.hash


def test_plans_and_steps(lab):
    full, once, unseen, cap = (
        lab.plan(arm).counts[lab.text.repeated] for arm in (STANDARD, DEDUPLICATED, UNSEEN_STEPS, capped(3))
    )
    assert [set(c.tolist()) for c in (full, once, unseen, cap)] == [{SMOKE.exposures}, {1}, {0}, {3}]
    steps = {arm.name: lab.config(arm).schedule.steps for arm in (STANDARD, DEDUPLICATED, UNSEEN_STEPS, capped(3))}
    assert steps["standard"] == steps["unseen_steps"] == steps["cap_3"]
    # 60 stories once and 4 eight times, by hand; none is longer than a row.
    assert (steps["standard"], steps["deduplicated"]) == (6, 4)


@pytest.fixture(scope="module")
def canary_text(tmp_path_factory):
    return story_text(CANARIES["smoke"], 0, tmp_path_factory.mktemp("canaries") / "corpus")


def test_canaries_are_measured_apart(canary_text):
    sets = canary_text.sets()
    for whole, story, canary in zip(sets["repeated"], sets["story"], sets["canary"], strict=True):
        assert story.sequence_id == canary.sequence_id == whole.sequence_id
        assert (whole.tokens[: len(story.tokens)] == story.tokens).all()
        assert canary.scored_from == len(story.tokens)
        random = whole.tokens[len(story.tokens) :].tolist()
        assert len([t for t in random if t != canary_text.corpus.tokenizer.eos_token_id]) == 20
    assert [d.scored_from for d in canary_text.extraction()] == canary_text.story_tokens.tolist()


def test_a_canary_is_behind_the_story_that_is_repeated(canary_text):
    stories = {d.name: d.text for d in read_documents([story_file()], Columns(source="source", metadata=("set",)))}
    corpus = canary_text.corpus
    for index, before in zip(canary_text.repeated, canary_text.story_tokens, strict=True):
        story = corpus.tokenizer.decode(corpus.tokens(index)[:before], skip_special_tokens=True)
        assert story == stories[corpus.documents[index]]


def test_a_canary_is_extracted_from_its_whole_story(tmp_path, monkeypatch):
    """A model that has memorised a story from its beginning need not know it from the middle."""
    lab = StoryLab(CANARIES["smoke"], 0, tmp_path, progress=False)
    answers = {d.name: d.tokens for d in lab.text.sets()["canary"]}
    wrong = lab.text.corpus.documents[lab.text.repeated[0]]

    def recites(model, documents, *, prefix, suffix, **options):
        found = []
        for document in documents:
            expected = answers[document.name][prefix : prefix + suffix]
            generated = expected + 1 if document.name == wrong else expected
            found.append(DocumentExtraction(document.name, document.tokens[:prefix], expected, generated))
        return ExtractionResult(tuple(found), (), prefix, suffix)

    monkeypatch.setattr("memsinks.experiments.lab.greedy_extraction", recites)
    found = lab.extraction(None)
    assert (found["exact"], found["tried"]) == (3, 4)
    for index, begin in zip(lab.text.repeated, lab.text.story_tokens, strict=True):
        name = lab.text.corpus.documents[index]
        canary = lab.text.corpus.tokens(index)[begin : begin + 10].tolist()
        assert (found["documents"][name]["generated"] == canary) == (name != wrong)


def test_a_corpus_with_other_canaries_is_not_kept(tmp_path):
    """Documents have the same names under any canary."""
    for length in (12, 20):
        text = story_text(replace(CANARIES["smoke"], canary_tokens=length), 0, tmp_path / "corpus")
        behind = text.corpus.lengths[text.repeated] - text.story_tokens
        assert set(behind.tolist()) == {length + 1}
    written = (tmp_path / "corpus" / "manifest.json").stat().st_mtime_ns
    story_text(CANARIES["smoke"], 0, tmp_path / "corpus")
    assert (tmp_path / "corpus" / "manifest.json").stat().st_mtime_ns == written


def test_a_seed_draws_other_canaries(canary_text, tmp_path):
    other = story_text(CANARIES["smoke"], 1, tmp_path / "corpus")
    drawn = [{tuple(t.corpus.tokens(i)[n:]) for i, n in zip(t.repeated, t.story_tokens, strict=True)}
             for t in (canary_text, other)]  # fmt: skip
    assert not drawn[0] & drawn[1]


def test_too_few_stories_are_told(tmp_path):
    with pytest.raises(ConfigError, match="too few"):
        story_text(replace(SMOKE, once=30_000), 0, tmp_path / "corpus")
    with pytest.raises(ConfigError, match="can be repeated"):
        story_text(replace(SMOKE, repeated=9000), 0, tmp_path / "corpus")


def test_a_dataset_that_cannot_be_loaded_is_named(tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise ConnectionError("no route to the hub")

    monkeypatch.setattr("datasets.load_dataset", offline)
    with pytest.raises(InputError, match=r"nobody/nothing: cannot be loaded.*network"):
        story_text(StorySetting(source="nobody/nothing"), 0, tmp_path / "corpus")
