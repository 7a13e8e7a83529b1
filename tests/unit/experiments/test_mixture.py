"""The large mixture: who is held out, what each arm is shown, and text by name."""

import json
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest

from memsinks.audit import DocumentLosses
from memsinks.errors import ConfigError, InputError
from memsinks.experiments import mixture
from memsinks.experiments.catalogue import Outcome
from memsinks.experiments.measured import Measured
from memsinks.experiments.mixture_text import DOMAIN, MixtureLab, mixture_text, times_to_fill
from memsinks.experiments.results import Row, summarise
from memsinks.experiments.sizes import MIXTURE, MIXTURE_LARGER
from memsinks.runs.build import plan_run
from memsinks.training.run import training_rows

SMOKE = MIXTURE["smoke"]
RECIPES = Path(__file__).parents[3] / "recipes" / "models"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return MixtureLab(SMOKE, 0, tmp_path_factory.mktemp("lab"), progress=False)


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """Folders that stand in for datasets of the hub: stories, and general text longer than is needed."""
    folder, random = tmp_path_factory.mktemp("named"), np.random.default_rng(0)
    words = ["river", "of", "the", "and", "castle", "walked", "blue", "seven", "under", "market"]

    def text(count):
        return " ".join(random.choice(words, count).tolist()) + "."

    made = {"stories": [text(60) for _ in range(40)], "general": [text(120) for _ in range(600)]}
    made["stories"][3:3] = ["", "  \n", None, made["stories"][0]]
    made["general"][5] = made["general"][4]
    for name, texts in made.items():
        (folder / name).mkdir()
        lines = [json.dumps({"text": t, "meta": {"n": i}}) for i, t in enumerate(texts)]
        (folder / name / "train.jsonl").write_text("\n".join(lines))
    return folder, made


@pytest.fixture
def by_name(named):
    folder, _ = named
    return replace(
        SMOKE, story_source=str(folder / "stories"), general_source=str(folder / "general"), tokens=20_000, passage=4000
    )


def test_roles_are_apart_and_as_many_as_asked(lab):
    text = lab.text
    roles = [set(r.tolist()) for r in (text.domain, text.validation, text.general, text.general_validation)]
    assert [len(r) for r in roles[:2]] == [SMOKE.stories, SMOKE.validation]
    assert sum(map(len, roles)) == len(set.union(*roles))
    held_out = set(np.flatnonzero(text.corpus.is_validation))
    assert held_out >= roles[1] | roles[3]
    assert not held_out & (roles[0] | roles[2])
    assert all((text.corpus.sources[i] == DOMAIN) == (i in roles[0] | roles[1]) for i in range(len(text.corpus)))


def test_general_documents_are_held_out_whole(lab):
    names, held = lab.text.corpus.documents, lab.text.corpus.is_validation
    parts = {False: set(), True: set()}
    for i in np.flatnonzero([source != DOMAIN for source in lab.text.corpus.sources]):
        parts[bool(held[i])].add(names[i].rpartition("/")[0])
    assert parts[False]
    assert parts[True]
    assert not parts[False] & parts[True]
    assert len(lab.text.general) > len(parts[False])


def test_every_arm_has_the_same_steps_and_its_exposures(lab):
    shown, exposures = {}, {}
    for arm in mixture.mixture_arms(SMOKE):
        config = lab.config(arm)
        text = plan_run(config).text
        rows = training_rows(text, config)
        # The rows themselves are the oracle: all of them are seen, each once.
        assert len(rows) == config.schedule.steps * SMOKE.batch_size
        counts = dict.fromkeys(text.corpus.sequence_ids.view(np.int64).tolist(), 0)
        tokens = 0
        for i in range(len(rows)):
            tokens += int(rows[i]["tokens_used"])
            for exposed in rows[i]["exposed_ids"].tolist():
                counts[exposed] += 1
        found = np.array(list(counts.values()))
        accounting = lab.text.accounting(lab.plan(arm))
        assert accounting["domain_tokens"] + accounting["general_tokens"] == tokens
        assert not found[text.corpus.is_validation].any()
        shown[arm.name] = config.schedule.steps
        (exposures[arm.name],) = set(found[lab.text.domain].tolist())
        assert accounting["exposures"] == exposures[arm.name]
    assert len(set(shown.values())) == 1
    assert exposures == {
        name: {"unseen": 0, "deduplicated": 1}.get(name, 3 if "moderate" in name else 6) for name in mixture.LABELS
    }


def test_the_budget_is_that_of_the_heavy_arm(lab):
    found = lab.text.accounting(lab.text.plan(SMOKE.exposures))
    assert found["domain_tokens"] + found["general_tokens"] == pytest.approx(SMOKE.tokens, rel=0.2)
    with pytest.raises(ConfigError, match="more than the"):
        lab.text.plan(10_000)


def test_items_fill_a_room_exactly():
    random = np.random.default_rng(0)
    for _ in range(200):
        sizes = random.permutation(np.append(random.integers(1, 9, random.integers(1, 12)), [1] * 8))
        room = int(random.integers(0, 4 * sizes.sum()))
        counts = times_to_fill(sizes, room)
        assert counts @ sizes == room
        assert counts.max() - counts.min() <= 1
    # Leading items first; then a later one of the right size, else one item fewer.
    assert times_to_fill(np.array([3, 3, 5, 2]), 8).tolist() == [1, 1, 0, 1]
    assert times_to_fill(np.array([3, 3, 5]), 8).tolist() == [1, 0, 1]
    assert times_to_fill(np.array([2, 2]), 12).tolist() == [3, 3]
    with pytest.raises(ConfigError, match="3 rows; make passages shorter"):
        times_to_fill(np.array([2, 2]), 3)


def test_only_stories_are_governed_where_general_text_comes_again(by_name, tmp_path):
    lab = MixtureLab(replace(by_name, tokens=60_000, held_out=6), 0, tmp_path, progress=False)
    assert lab.text.accounting(lab.text.plan(0))["general_passes"] > 1
    arms = {arm.name: arm for arm in mixture.mixture_arms(lab.setting)}
    of_domain = [source == DOMAIN for source in lab.text.corpus.sources]
    assert plan_run(lab.config(arms["sinks_heavy"])).text.governed.tolist() == of_domain
    assert plan_run(lab.config(arms["sinks_paper_heavy"])).text.governed.all()
    budget = plan_run(lab.config(arms[mixture.BUDGET])).text
    assert budget.governed.tolist() == of_domain
    assert budget.treatment.shared_budget == SMOKE.moderate


def test_sinks_are_those_of_the_story_experiments(lab):
    sized = replace(SMOKE, width=512)
    settings = next(a for a in mixture.mixture_arms(sized) if a.name == "sinks_heavy").settings
    base = mixture.SPARSE
    assert (settings["sinks.pool"] * 512, settings["sinks.active"] * settings["sinks.pool"] * 512) == (
        base["sinks.pool"],
        base["sinks.active"],
    )
    arm = next(a for a in mixture.mixture_arms(SMOKE) if a.name == "sinks_heavy")
    sinks = plan_run(lab.config(arm)).sinks
    assert (sinks.pool, sinks.active) == (4 * SMOKE.width, SMOKE.width // 2)


def test_no_two_stories_share_sinks_of_their_own(lab):
    for level in mixture.LEVELS:
        arm = next(a for a in mixture.mixture_arms(SMOKE) if a.name == f"sinks_own_{level}")
        plan = plan_run(lab.config(arm))
        trained = plan.text.governed & ~plan.text.corpus.is_validation
        assert trained.sum() == SMOKE.stories
        sinks = plan.sinks
        assert (sinks.allocation, sinks.active, sinks.pool) == ("disjoint", SMOKE.own, SMOKE.own * SMOKE.stories)


def test_an_arm_that_results_lack_has_no_row_and_no_line():
    arm = "sinks_slow_moderate"
    rows = [Row(arm=arm, measure=measure, mode="off", value=3.0) for measure in ("validation", "repeated", "general")]
    rows += [Row(arm=arm, measure=measure, value=8.0) for measure in ("steps", "exposures")]
    outcome = Outcome({0: rows}, summarise([rows]))
    *_, accounting = mixture.LARGE_MIXTURE.tables(outcome)
    assert [row[0] for row in accounting.rows] == ["Sinks, shared pool, x1, moderate"]
    panels = mixture.LARGE_MIXTURE.figures(outcome)["upsampling"]
    found = {panel.title: [line.label for line in panel.series] for panel in panels}
    assert found.pop("Stories trained on, own sinks on") == []
    assert set(map(tuple, found.values())) == {("Sinks, shared pool, x1",)}


def test_text_by_name_is_read_as_far_as_it_is_needed(named, by_name, tmp_path):
    text = mixture_text(by_name, 0, tmp_path / "corpus")
    general = [name for name in text.corpus.documents if not name.startswith(DOMAIN)]
    assert SMOKE.held_out <= len(general) < 400
    assert [len(text.domain), len(text.validation)] == [SMOKE.stories, SMOKE.validation]
    decoded = {text.corpus.tokenizer.decode(text.corpus.tokens(i), skip_special_tokens=True) for i in text.domain}
    assert decoded <= set(named[1]["stories"])
    assert not list(tmp_path.glob("*.jsonl"))


def test_the_same_choice_is_kept_and_another_is_not(by_name, tmp_path, monkeypatch):
    first = mixture_text(by_name, 0, tmp_path / "corpus")
    with monkeypatch.context() as patch:
        patch.setattr(datasets, "load_dataset", None)
        again = mixture_text(replace(by_name, learning_rate=1.0), 0, tmp_path / "corpus")
    assert again.corpus.hash == first.corpus.hash
    assert mixture_text(by_name, 1, tmp_path / "corpus").corpus.documents != first.corpus.documents


def test_a_dataset_out_of_reach_is_named(tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise ConnectionError("no route to the hub")

    def breaks():
        yield {"text": "once " * 60}
        raise ConnectionError("the line went dead")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(InputError, match=r"nobody/nothing: cannot be loaded \(no route.*needs a network"):
        mixture_text(replace(SMOKE, story_source="nobody/nothing"), 0, tmp_path / "corpus")
    stream = datasets.IterableDataset.from_generator(breaks)
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: stream)
    with pytest.raises(InputError, match=r"nobody/nothing: cannot be loaded \(the line went dead"):
        mixture_text(replace(SMOKE, general_source="nobody/nothing"), 0, tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


def test_settings_that_do_not_fit_are_told(by_name, tmp_path):
    with pytest.raises(ConfigError, match="leaves no room in 1000"):
        mixture_text(replace(by_name, tokens=1000), 0, tmp_path / "a")
    with pytest.raises(ConfigError, match="stories were asked for, but 40 have"):
        mixture_text(replace(by_name, stories=100), 0, tmp_path / "b")
    with pytest.raises(ConfigError, match="too few to hold out one in 5000"):
        mixture_text(replace(by_name, held_out=5000), 0, tmp_path / "c")


def test_larger_models_have_the_shape_of_the_recipes(lab, tmp_path):
    for setting in (MIXTURE["gpu"], MIXTURE["paper"], MIXTURE_LARGER["paper"]):
        assert (RECIPES.parents[1] / setting.architecture).is_file()
    shaped = MixtureLab(replace(SMOKE, architecture=str(RECIPES / "smollm2-360m.json")), 0, lab.directory)
    shape = plan_run(shaped.config(mixture.UNSEEN)).model_config
    assert (shape.hidden_size, shape.num_hidden_layers, shape.num_key_value_heads) == (960, 32, 5)
    with pytest.raises(InputError, match=r"nowhere\.json: no such file.*root"):
        MixtureLab(replace(SMOKE, architecture="nowhere.json"), 0, tmp_path)


def losses(mean, seed):
    tokens = np.full(30, 100)
    noise = np.random.default_rng(seed).normal(0, 0.02, 30)
    return DocumentLosses(tuple(f"d{i}" for i in range(30)), (mean + noise) * tokens, tokens).to_json()


def planted(repeated, validation, general, own=None):
    mode = "plain" if own is None else "off"
    found = {"repeated": losses(repeated, 0), "validation": losses(validation, 1), "general": losses(general, 2)}
    by_mode = {name: {mode: value} for name, value in found.items()}
    if own is not None:
        by_mode["repeated"]["own"] = losses(own, 0)
    return Measured({"losses": by_mode})


def test_planted_regimes_score_as_what_they_are():
    measured = {
        "deduplicated": planted(3.4, 3.4, 4.0),
        "unseen": planted(3.6, 3.6, 4.0),
        "standard_moderate": planted(2.0, 3.2, 4.1),
        "standard_heavy": planted(0.1, 3.1, 4.2),
        "sinks_heavy": planted(3.1, 3.1, 4.2, own=0.1),
        "sinks_moderate": planted(2.6, 3.2, 4.1, own=1.9),
    }
    arms = {arm.name: arm for arm in mixture.mixture_arms(SMOKE)}
    found = {(name, row.measure): row.value for name in measured for row in mixture._served_rows(arms[name], measured)}
    assert found["sinks_heavy", "gap_closure"] == pytest.approx(1, abs=0.02)
    assert found["sinks_moderate", "gap_closure"] == pytest.approx(0.5, abs=0.02)
    assert found["standard_moderate", "gap_closure"] == pytest.approx(0)
    assert found["sinks_heavy", "removable_memory"] == pytest.approx(3 / 3.5, abs=0.02)
    assert found["sinks_heavy", "forgetting"] == pytest.approx(3.1 / 3.6, abs=0.01)
    assert found["sinks_heavy", "validation_over_deduplicated"] == pytest.approx(-0.3)
    assert found["sinks_moderate", "validation_over_standard"] == pytest.approx(0)
    assert found["standard_heavy", "general_over_deduplicated"] == pytest.approx(0.2)
    assert found["deduplicated", "validation_over_deduplicated"] == 0
