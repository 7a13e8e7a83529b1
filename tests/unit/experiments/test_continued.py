"""Continued pretraining at its smallest scale: text, policies, and planted effects."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import safetensors.torch

from memsinks.baselines.adapters import Lora
from memsinks.errors import ConfigError, IsolationWarning
from memsinks.experiments.catalogue import Outcome
from memsinks.experiments.continued import CONTINUED, SETTINGS, ContinuedLab
from memsinks.experiments.continued_arms import BASE, FULL, LORA, PORT, SINKS, TRAINED, WITH_SINKS
from memsinks.experiments.passages import passage_text, passages
from memsinks.experiments.results import summarise
from memsinks.runs import run
from memsinks.runs.run import execute, working_directory

pytest.importorskip("peft")

SMOKE = SETTINGS["smoke"]
FOLDER = ("arms", "continued-smoke", "seed-0")


class KeepingLab(ContinuedLab):
    keeps_models = True


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return KeepingLab(SMOKE, 0, tmp_path_factory.mktemp("lab").joinpath(*FOLDER), progress=False)


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return tmp_path_factory.mktemp("output")


@pytest.fixture(scope="module")
def rows(output):
    return CONTINUED.measure("smoke", 0, output, progress=False)


@pytest.fixture(scope="module")
def outcome(rows):
    return Outcome({0: rows}, summarise([rows]))


def test_passages_begin_paragraphs_and_do_not_overlap():
    text = "a b c d e\nf g\n\nh i j k\nl m"
    assert passages(text, 3) == ["a b c", "f g\n\nh"]
    assert passages(text, 2) == ["a b", "f g", "h i", "l m"]
    assert passages(text, 14) == []


def test_roles_are_apart(lab):
    text = lab.text
    counts = {name: len(getattr(text, name)) for name in ("governed", "held_out", "once", "validation")}
    assert counts == {"governed": 3, "held_out": 3, "once": 12, "validation": 3}
    place = [name.partition(":")[0] for name in text.corpus.documents]
    of = {name: {place[i] for i in getattr(text, name)} for name in counts}
    assert not of["governed"] & of["held_out"]
    assert not of["once"] & of["validation"]
    held_out = {i for i, held in enumerate(text.corpus.is_validation) if held}
    assert held_out == {*text.held_out, *text.validation}
    assert (text.corpus.lengths[text.governed] <= SMOKE.max_length).all()


def test_a_plan_repeats_governed_text_and_matches_it_with_general_text(lab):
    counts = lab.plan(FULL).counts
    assert set(counts[lab.text.governed]) == {SMOKE.exposures}
    assert set(counts[lab.text.once]) == {1}
    assert counts[lab.text.governed].sum() == counts[lab.text.once].sum()


def test_too_little_text_or_room_is_told(tmp_path):
    with pytest.raises(ConfigError, match="passages of 100000 words are wanted"):
        passage_text(replace(SMOKE, words=100_000), 0, tmp_path / "a")
    with pytest.raises(ConfigError, match="more than 64 tokens; ask for fewer words"):
        passage_text(replace(SMOKE, max_length=64), 0, tmp_path / "b")


def tensors(folder):
    return safetensors.torch.load_file(folder / "model.safetensors")


def same_bits(left, right):
    left, right = tensors(left), tensors(right)
    return left.keys() == right.keys() and all(left[key].equal(right[key]) for key in left)


def test_frozen_weights_keep_their_bits_and_others_do_not(lab):
    everything = replace(
        SINKS["r=0"], name="all_governed", settings=dict(SINKS["r=0"].settings) | {"exposures.govern": "all"}
    )
    for arm, unchanged in ((SINKS["frozen"], True), (everything, True), (SINKS["r=0"], False), (LORA, False)):
        lab.measured(arm)
        assert same_bits(lab.place(BASE), lab.place(arm)) == unchanged, arm.name


def test_an_arm_with_another_adapter_is_trained_anew(lab):
    first = lab.measured(LORA).data
    second = lab.measured(replace(LORA, adapter=Lora(rank=2))).data
    assert first["fingerprint"] != second["fingerprint"]
    assert first["losses"] != second["losses"]


@pytest.mark.filterwarnings("ignore::memsinks.IsolationWarning")
@pytest.mark.parametrize("kind", ["port", "all"])
def test_a_stopped_arm_with_an_adapter_goes_on_to_the_same_bits(lab, kind, monkeypatch):
    """Stopped after its last step, its last checkpoint lost."""
    settings = dict(PORT[kind].settings) | {"checkpoints.every_steps": 2, "checkpoints.keep": 3}
    whole, broken = (replace(PORT[kind], name=f"{kind}_{name}", settings=settings) for name in ("whole", "broken"))
    with pytest.warns(IsolationWarning) if kind == "port" else nullcontext():
        execute(lab.config(whole), adapter=whole.adapter)

    def fail(*args):
        raise KeyboardInterrupt

    config = lab.config(broken)
    with monkeypatch.context() as patch:
        patch.setattr(run, "_save", fail)
        with pytest.raises(KeyboardInterrupt):
            execute(config, adapter=broken.adapter)
    newest = max(working_directory(config).glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    newest.rename(newest.with_name("lost"))
    execute(config, adapter=broken.adapter)
    assert same_bits(lab.place(whole), lab.place(broken))
    assert not same_bits(lab.place(whole), lab.place(BASE))


def test_every_arm_trains_for_as_many_steps_on_as_much_text(outcome):
    # 3 passages four times, and 12 of general text: 24 rows in batches of 4.
    assert {outcome.get(arm.name, "steps").mean for arm in TRAINED} == {6}
    assert len({outcome.get(arm.name, "tokens").mean for arm in TRAINED}) == 1


def test_beside_frozen_weights_a_deletion_gives_the_pretrained_model_back(outcome):
    frozen = SINKS["frozen"].name
    for documents in ("governed", "held_out", "validation"):
        assert outcome.get(frozen, documents, "off").mean == outcome.get(BASE.name, documents).mean
        assert outcome.get(FULL.name, documents).mean != outcome.get(BASE.name, documents).mean
    assert outcome.get(frozen, "forgetting", "off").mean == 1
    assert outcome.get(frozen, "validation_change", "off").mean == 0
    own, base = outcome.get(frozen, "governed", "own").mean, outcome.get(BASE.name, "governed").mean
    assert own < base
    assert outcome.get(frozen, "deleted", "right").mean == pytest.approx(base)
    assert outcome.get(frozen, "memory_removed", "right").mean == pytest.approx(1, abs=1e-3)


def test_tables_and_figures_have_every_arm(outcome):
    tables = CONTINUED.tables(outcome)
    text = "\n".join(table.markdown() for table in tables)
    assert "nan" not in text
    assert all(arm.label in text for arm in (BASE, *TRAINED))
    assert len(tables[1].rows) == len(WITH_SINKS)
    for panel in CONTINUED.figures(outcome)["losses"]:
        assert {len(series.x) for series in panel.series} <= {
            len(panel.ticks),
            len(panel.ticks) - 1,
            len(panel.ticks) - 2,
        }
        assert len(panel.lines) == 2


def test_finished_arms_are_read_back_and_their_models_are_gone(rows, output):
    folder = output.joinpath(*FOLDER)
    assert not list(folder.glob("*/sinks.safetensors"))
    assert [path.parent.name for path in folder.glob("*/model.safetensors")] == [BASE.name]
    assert (folder / f"{FULL.name}-run" / "run.toml").is_file()
    before = {path: path.stat().st_mtime_ns for path in folder.glob("measured/*.json")}
    assert len(before) == len(TRAINED)
    assert CONTINUED.measure("smoke", 0, output, progress=False) == rows
    assert {path: path.stat().st_mtime_ns for path in folder.glob("measured/*.json")} == before
