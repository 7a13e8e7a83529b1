"""From settings to a blueprint and a model: a table of what each setting makes, and what is refused."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from families import plain_model, sink_model, tokens
from transformers import AutoConfig

import memsinks
from memsinks.config import parse_config
from memsinks.corpus import Columns, Corpus, PrepareConfig, prepare
from memsinks.errors import CheckpointError, ConfigError, InputError, MemsinksError
from memsinks.ids import to_tensor
from memsinks.runs.build import brings_sinks, build_model, plan_model, plan_run
from memsinks.runs.config import RunConfig
from memsinks.runs.exposures import as_lines, exposures_table
from memsinks.sinks.attach import SinkModel, sinks_of
from memsinks.stream import ExposurePlan
from memsinks.training.exposures import ExposureCounter
from memsinks.training.run import train

WIDTH = 40
SMALL = {
    "model.hidden": 16, "model.layers": 2, "model.heads": 2, "model.width": WIDTH, "stream.max_length": 32,
    "precision.bf16": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    """Twenty-four documents of three sources; the fifth is a copy of the second, so that they share an ID."""
    folder = tmp_path_factory.mktemp("build")
    rows = [
        {
            "id": f"d{i:02d}",
            "source": f"p{i % 3}",
            "text": f"Number {i}: " + " ".join(f"w{i * j % 11}" for j in range(12)),
        }
        for i in range(24)
    ]
    rows[5]["text"] = rows[2]["text"]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = PrepareConfig(columns=Columns(source="source"), vocab_size=290, validation_fraction=0.2, seed=1)
    made = prepare(folder / "rows.jsonl", folder / "corpus", config)
    assert made.sequence_ids[2] == made.sequence_ids[5]
    return made


@pytest.fixture
def configured(corpus):
    def make(**settings: object) -> RunConfig:
        content: dict = {}
        for key, value in {"corpus.path": str(corpus.path), **SMALL, **spelled(settings)}.items():
            section, _, name = key.rpartition(".")
            (content.setdefault(section, {}) if section else content)[name] = value
        return parse_config(RunConfig, content)

    return make


def spelled(settings: dict) -> dict:
    """``sinks__pool=8`` stands for ``sinks.pool = 8``."""
    return {key.replace("__", "."): str(v) if isinstance(v, Path) else v for key, v in settings.items()}


def training(corpus: Corpus, count: int) -> list[str]:
    """Names of training documents with IDs of their own, in the corpus's order."""
    once = [i for i in np.flatnonzero(~corpus.is_validation) if i not in (2, 5)]
    return [corpus.documents[i] for i in once[:count]]


def ids(corpus: Corpus, names: list[str]) -> list[int]:
    return [int(corpus.sequence_ids[corpus.index(name)]) for name in names]


# The pool


@pytest.mark.parametrize(
    ("settings", "pool", "active", "width"),
    [
        ({}, 4 * WIDTH, round(0.1 * 4 * WIDTH), WIDTH),
        ({"sinks__pool": 50}, 50, 5, WIDTH),
        ({"sinks__pool": 2.0}, 2 * WIDTH, 8, WIDTH),
        ({"sinks__active": 7}, 4 * WIDTH, 7, WIDTH),
        ({"sinks__active": 0.5}, 4 * WIDTH, 2 * WIDTH, WIDTH),
        ({"sinks__pool": 64, "sinks__block": 16}, 64, 16, WIDTH),
        # The paper's split: what is not shared is the pool, and the model is as much narrower.
        ({"sinks__shared": 0.7}, 12, 4, 28),
        ({"sinks__shared": 0.75, "sinks__active": 0.5}, 10, 5, 30),
    ],
)
def test_the_pool_is_as_large_as_settings_say(configured, settings, pool, active, width):
    blueprint = plan_run(configured(**settings))
    assert (blueprint.sinks.pool, blueprint.sinks.active) == (pool, active)
    assert (type(blueprint.sinks.pool), type(blueprint.sinks.active)) == (int, int)
    assert blueprint.model_config.intermediate_size == width
    model = build_model(blueprint)
    assert [s.up.shape for s in sinks_of(model)] == [(pool, 16)] * 2
    assert model.model.layers[0].mlp.up_proj.weight.shape == (width, 16)
    assert model.config.vocab_size == len(blueprint.text.corpus.tokenizer)
    assert len(blueprint.owners) == 0


def test_settings_of_the_pool_are_passed_on(configured):
    settings = {"kernel": "dense", "init": "noop", "block": 4, "mask": "shared"}
    sinks = plan_run(configured(seed=9, sinks__active=8, **{f"sinks__{k}": v for k, v in settings.items()})).sinks
    assert sinks.seed == 9
    assert {key: getattr(sinks, key) for key in settings} == settings
    assert plan_run(configured(sinks__shared=0.7, sinks__mask="shared")).sinks.mask == "shared"


@pytest.mark.parametrize(
    ("depth", "layers", "numbers"),
    [
        (4, [], (0, 1, 2, 3)),
        (4, [1, 3], (1, 3)),
        (4, "early", (0, 1)),
        (4, "late", (2, 3)),
        (5, "early", (0, 1, 2)),
        (5, "late", (2, 3, 4)),
        (1, "late", (0,)),
    ],
)
def test_the_layers_with_sinks(configured, depth, layers, numbers):
    blueprint = plan_run(configured(model__layers=depth, sinks__layers=layers))
    assert tuple(s.layer_index for s in sinks_of(build_model(blueprint))) == numbers


def test_layers_and_masks_that_do_not_fit_are_refused(configured):
    with pytest.raises(ConfigError, match=r"layers=\[2\]: this model has 2 decoder layers"):
        plan_run(configured(sinks__layers=[2]))
    for layers in ([0, 0], [1, 0], [-1]):
        with pytest.raises(ConfigError, match=r"sinks\.layers must be .*each once"):
            configured(sinks__layers=layers)
    for layers in ([0], "late"):
        with pytest.raises(ConfigError, match=r"every layer needs sinks; leave sinks\.layers out"):
            configured(sinks__layers=layers, sinks__shared=0.7)
    with pytest.raises(ConfigError, match=r"sinks\.mask is about hashing"):
        configured(sinks__mask="shared", sinks__allocation="disjoint")


def test_the_pool_of_the_paper_takes_no_count_of_active_sinks(configured):
    with pytest.raises(ConfigError, match=r"sinks\.active=4.*sinks\.shared"):
        plan_run(configured(sinks__shared=0.7, sinks__active=4))


def test_a_baseline_has_no_sinks(configured):
    blueprint = plan_run(configured(sinks__attach=False, exposures__repeat=[], sinks__allocation="disjoint"))
    assert blueprint.sinks is None
    assert len(blueprint.owners) == 0
    assert not isinstance(build_model(blueprint), SinkModel)


def test_the_same_seed_builds_the_same_model_and_another_another(configured):
    first, second, other = (build_model(plan_run(configured(seed=s))).state_dict() for s in (3, 3, 4))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    for part in ("model.embed_tokens.weight", "model.layers.1.mlp.sinks.down"):
        assert not torch.equal(first[part], other[part])


def test_planning_a_model_needs_no_corpus_where_its_configuration_is_given(configured, tmp_path):
    AutoConfig.for_model("llama", hidden_size=16, intermediate_size=50, num_attention_heads=2).save_pretrained(tmp_path)
    model_config, sinks = plan_model(configured(model__config=tmp_path / "config.json", corpus__path="nowhere"))
    assert (model_config.intermediate_size, sinks.pool) == (50, 200)
    with pytest.raises(ConfigError, match="nowhere: no such corpus"):
        plan_model(configured(corpus__path="nowhere"))


# Owners


def test_a_disjoint_pool_has_rows_for_each_governed_id(configured, corpus):
    names = training(corpus, 5)
    config = configured(sinks__allocation="disjoint", exposures__repeat=names[::-1], exposures__times=3)
    blueprint = plan_run(config)
    # In the order of their documents, not of the list; the copies are planned twice by having one ID.
    twice = [i for i in (2, 5) if not corpus.is_validation[i]]
    expected = [corpus.index(n) for n in names] + (twice[:1] if len(twice) == 2 else [])
    assert blueprint.owners.dtype == np.uint64
    assert blueprint.owners.tolist() == [int(corpus.sequence_ids[i]) for i in sorted(expected)]
    active = round(0.1 * WIDTH)
    assert (blueprint.sinks.active, blueprint.sinks.pool) == (active, active * len(expected))
    assert blueprint.sinks.owned == blueprint.sinks.pool
    model = build_model(blueprint)
    rows = model.sink_allocation.rows(to_tensor(blueprint.owners), model.sink_config, 1)[0]
    # Slots are given away in that order, and all rows with them.
    assert rows.flatten().tolist() == list(range(active * len(expected)))


def test_copies_own_rows_once(configured, corpus):
    """Two documents with one sequence ID are one owner."""
    blueprint = plan_run(configured(sinks__allocation="disjoint", exposures__govern="all"))
    planned = corpus.sequence_ids[~corpus.is_validation]
    assert len(blueprint.owners) == len(set(planned.tolist())) == len(set(blueprint.owners.tolist()))
    assert blueprint.owners.tolist() == list(dict.fromkeys(planned.tolist()))


@pytest.mark.parametrize(
    ("settings", "active"), [({"sinks__active": 6}, 6), ({"sinks__block": 3}, 3), ({"sinks__block": 16}, 16)]
)
def test_the_rows_of_an_owner_come_in_blocks(configured, settings, active):
    config = configured(
        sinks__allocation="disjoint", exposures__govern="sources", exposures__govern_values=["p0"], **settings
    )
    blueprint = plan_run(config)
    assert blueprint.sinks.active == active
    assert blueprint.sinks.pool == active * len(blueprint.owners)
    build_model(blueprint)


def test_a_disjoint_pool_too_small_for_its_owners_is_refused(configured):
    settings = {"sinks__allocation": "disjoint", "exposures__govern": "all", "sinks__active": 4, "sinks__pool": 8}
    with pytest.raises(
        ConfigError, match=r"sinks\.pool=8: (\d+) governed IDs own 4 rows each; make it (\d+)"
    ) as caught:
        plan_run(configured(**settings))
    needed = int(re.search(r"make it (\d+)", str(caught.value))[1])
    build_model(plan_run(configured(**{**settings, "sinks__pool": needed})))
    del settings["sinks__pool"]
    with pytest.raises(ConfigError, match=r"sinks\.active=0\.5.*whole number"):
        plan_run(configured(**{**settings, "sinks__active": 0.5}))


def test_hybrid_owners_are_governed_documents_of_their_sources(configured, corpus):
    hybrid = {"sinks__allocation": "hybrid", "sinks__owned": 80, "sinks__owners": ["p1"], "sinks__active": 4}
    p1 = [i for i in np.flatnonzero(~corpus.is_validation) if corpus.sources[i] == "p1"]
    blueprint = plan_run(configured(exposures__govern="all", **hybrid))
    assert blueprint.owners.tolist() == corpus.sequence_ids[p1].tolist()
    assert (blueprint.sinks.pool, blueprint.sinks.owned) == (4 * WIDTH, 80)
    model = build_model(blueprint)
    own = model.sink_allocation.rows(to_tensor(blueprint.owners), model.sink_config, 2)
    assert own.min() >= 4 * WIDTH - 80
    rest = model.sink_allocation.rows(torch.arange(50), model.sink_config, 2)
    assert rest.max() < 4 * WIDTH - 80
    # Only governed ones, of those that are planned at all.
    some = [corpus.documents[i] for i in p1[:2]]
    repeated = plan_run(configured(exposures__repeat=some, exposures__times=2, **hybrid))
    assert repeated.owners.tolist() == ids(corpus, some)
    with pytest.raises(InputError, match="p9"):
        plan_run(configured(**{**hybrid, "sinks__owners": ["p9"]}))


# The plan


def test_the_plan_is_once_then_repeated_then_capped(configured, corpus):
    names = training(corpus, 2)
    once = plan_run(configured()).text.plan.counts
    assert once.tolist() == (~corpus.is_validation).astype(int).tolist()
    repeated = plan_run(configured(exposures__repeat=names, exposures__times=9)).text
    expected = once.copy()
    expected[[corpus.index(n) for n in names]] = 9
    assert repeated.plan.counts.tolist() == expected.tolist()
    capped = plan_run(configured(exposures__repeat=names, exposures__times=9, exposures__cap=4)).text
    assert capped.plan.counts.tolist() == np.minimum(expected, 4).tolist()
    assert capped.governed.tolist() == repeated.governed.tolist()
    assert repeated.facts() != capped.facts()


def test_governed_is_judged_after_the_cap(configured, corpus):
    name = training(corpus, 1)[0]
    text = plan_run(configured(exposures__repeat=[name], exposures__times=9, exposures__cap=1)).text
    assert not text.governed[corpus.index(name)]


def test_a_plan_file_with_repeats_on_top(configured, corpus, tmp_path):
    names = training(corpus, 3)
    ExposurePlan.once(corpus).only(names).repeat(names[:1], 5).save(tmp_path / "plan.parquet")
    text = plan_run(
        configured(exposures__plan=tmp_path / "plan.parquet", exposures__repeat=names[1:2], exposures__times=7)
    ).text
    planned = {corpus.documents[i]: int(n) for i, n in enumerate(text.plan.counts) if n}
    assert planned == {names[0]: 5, names[1]: 7, names[2]: 1}


def test_the_plan_is_made_in_the_order_that_is_documented(configured, corpus):
    """Upsample, weights, repeat, epochs, cap, cap_id: each on what the one before left."""
    name = next(n for n in training(corpus, 9) if corpus.sources[corpus.index(n)] == "p1")
    text = plan_run(
        configured(
            seed=5,
            exposures__upsample={"p0": 1.5},
            exposures__weights={"p1": 0.5, "*": 0.5},
            exposures__mixture_epochs=3.0,
            exposures__repeat=[name],
            exposures__times=40,
            exposures__epochs=2,
            exposures__cap=30,
            exposures__cap_id=7,
        )
    ).text
    weighted = (
        ExposurePlan.once(corpus)
        .upsample({"p0": 1.5}, seed=5)
        .weighted({"p1": 0.5, "*": 0.5}, mixture_epochs=3, seed=5)
    )
    expected = weighted.repeat([name], 40).epochs(2).cap(30).cap_id(7, seed=5)
    assert text.plan.counts.tolist() == expected.counts.tolist()
    assert text.plan.counts[corpus.index(name)] == 7
    by_id: dict[int, int] = {}
    for sequence_id, count in zip(corpus.sequence_ids.tolist(), text.plan.counts.tolist(), strict=True):
        by_id[sequence_id] = by_id.get(sequence_id, 0) + count
    assert max(by_id.values()) == 7


def test_factors_go_by_source_and_stay_with_a_plan_file(configured, corpus, tmp_path):
    names = training(corpus, 3)
    ExposurePlan.once(corpus).only(names).save(tmp_path / "plan.parquet")
    source = corpus.sources[corpus.index(names[0])]
    plan = plan_run(
        configured(exposures__plan=tmp_path / "plan.parquet", exposures__upsample={source: 3}, exposures__epochs=2)
    ).text.plan
    planned = {corpus.documents[i]: int(n) for i, n in enumerate(plan.counts) if n}
    assert planned == {n: 6 if corpus.sources[corpus.index(n)] == source else 2 for n in names}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"exposures__weights": {"p9": 1, "*": 1}},
            r"^exposures\.weights: no document has the source 'p9'; did you mean",
        ),
        ({"exposures__weights": {"p1": 1}}, r"^exposures\.weights: the source 'p0' has no weight"),
        (
            {"exposures__weights": {"p1": 0.9, "*": 0.1}},
            r"^exposures\.weights: a budget of .* give mixture_tokens=\d+ ",
        ),
        ({"exposures__upsample": {"p9": 2}}, r"^exposures\.upsample: no document has the source 'p9'"),
        ({"exposures__upsample": {"x": 2}, "exposures__upsample_column": "team"}, r"^exposures\.upsample: .*'team'"),
        ({"exposures__epochs": 2**63 - 1}, r"^exposures\.epochs: .* more than 64 bits count"),
    ],
)
def test_a_mixture_that_does_not_fit_the_corpus_names_its_key(configured, settings, message):
    if "exposures__epochs" in settings:
        settings["exposures__upsample"] = {"p0": 2}
    with pytest.raises(InputError, match=message):
        plan_run(configured(**settings))


def test_steps_that_break_a_cap_per_id_are_refused(configured):
    with pytest.raises(
        ConfigError, match=r"^schedule\.steps=50 goes .* than exposures\.cap_id=1; give at most"
    ) as caught:
        plan_run(configured(exposures__cap_id=1, schedule__steps=50, schedule__batch_size=4))
    most = int(str(caught.value).partition("at most ")[2].partition(" ")[0])
    plan_run(configured(exposures__cap_id=1, schedule__steps=most, schedule__batch_size=4))
    with pytest.raises(ConfigError, match="goes through the plan 2 times"):
        plan_run(configured(exposures__cap_id=1, schedule__steps=most + 1, schedule__batch_size=4))


def test_the_table_of_exposures(configured, corpus):
    config = configured(exposures__weights={"p1": 0.5, "*": 0.5}, exposures__mixture_epochs=2.0, schedule__steps=3)
    lines = as_lines(exposures_table(config, plan_run(config).text))
    assert lines[0].strip() == "Planned exposures"
    assert lines[1].split() == ["source", "documents", "IDs", "min", "mean", "max", "tokens", "share", "governed"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[3:-1]}
    assert rows.keys() == {"p0", "p1", "p2", "all"}
    assert float(rows["p1"][-2].rstrip("%")) == pytest.approx(50, abs=5)
    assert rows["all"][-2] == "100.0%"
    assert int(rows["all"][0]) == (~corpus.is_validation).sum()
    assert lines[-1].startswith("schedule.steps = 3: ")
    assert lines[-1].endswith("passes over this plan")


def test_governing_reaches_the_text_and_its_hash(configured, corpus):
    text = plan_run(configured(exposures__govern="sources", exposures__govern_values=["p2"])).text
    assert text.governed.tolist() == [s == "p2" for s in corpus.sources]
    other = plan_run(configured(exposures__govern="all", exposures__placebo_share=0.25)).text
    assert other.governed.all()
    assert other.treatment.placebo_share == 0.25
    # A treatment that text does not get is not among its facts, so that a new kind changes nothing for it.
    assert {k for k, v in other.facts().items() if v != text.facts().get(k)} == {"governed", "placebo_share"}
    assert text.facts().keys() == {"corpus", "plan", "governed"}


# What cannot be used


def test_missing_files_are_named_before_anything_is_built(configured, corpus, tmp_path):
    validation = corpus.documents[int(np.flatnonzero(corpus.is_validation)[0])]
    bad_plan = tmp_path / "bad.parquet"
    pq.write_table(pa.table({"document": ["nobody"], "exposures": [1]}), bad_plan)
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "typeless.json").write_text('{"hidden_size": 3}')
    for settings, words in [
        ({"corpus__path": tmp_path / "nothing"}, ["nothing"]),
        ({"exposures__plan": tmp_path / "no.parquet"}, ["no.parquet"]),
        ({"exposures__plan": bad_plan}, ["bad.parquet", "nobody"]),
        ({"exposures__repeat": ["nobody"]}, ["nobody"]),
        ({"exposures__repeat": [validation]}, [validation, "held out"]),
        ({"model__config": tmp_path / "no.json"}, ["model.config", "no.json"]),
        ({"model__config": tmp_path / "broken.json"}, ["model.config", "broken.json"]),
        ({"model__config": tmp_path / "typeless.json"}, ["model.config", "typeless.json"]),
        ({"model__pretrained": str(tmp_path / "nothing")}, ["model.pretrained", "nothing"]),
    ]:
        with pytest.raises(MemsinksError) as caught:
            plan_run(configured(**settings))
        for word in words:
            assert word in str(caught.value), settings
        assert "\n" not in str(caught.value)


def test_a_vocabulary_too_small_is_refused(configured, corpus, tmp_path):
    size = len(corpus.tokenizer)
    for vocabulary in (size - 1, size):
        config = AutoConfig.for_model(
            "llama", vocab_size=vocabulary, hidden_size=16, intermediate_size=24, num_hidden_layers=1,
            num_attention_heads=2,
        )  # fmt: skip
        config.save_pretrained(tmp_path)
        run = configured(model__config=tmp_path / "config.json")
        if vocabulary == size:
            assert plan_run(run).model_config.vocab_size == size
        else:
            with pytest.raises(ConfigError, match=rf"{vocabulary} tokens.*{size}.*--tokenizer"):
                plan_run(run)


@pytest.mark.parametrize("damage", ["missing", "cut", "other shape"])
def test_weights_that_cannot_be_loaded_are_an_input_error(configured, tmp_path, damage):
    plain_model("llama", vocab_size=300).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    if damage == "missing":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:200])
    else:
        config = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps({**config, "intermediate_size": 20}))
    with pytest.raises(InputError, match=r"model\.pretrained"):
        build_model(plan_run(configured(model__pretrained=str(tmp_path))))


# Pretrained models


def test_a_plain_pretrained_model_gets_sinks_that_change_nothing(configured, tmp_path):
    plain = plain_model("llama", vocab_size=300)
    plain.save_pretrained(tmp_path)
    blueprint = plan_run(configured(model__pretrained=str(tmp_path), sinks__pool=12))
    assert blueprint.sinks.init == "noop"
    model = build_model(blueprint).eval()
    x = tokens()
    logits = model(input_ids=x, sequence_ids=torch.arange(3)).logits
    assert torch.equal(logits, model(input_ids=x).logits), "own is off at first"
    torch.testing.assert_close(logits, plain(input_ids=x).logits)
    assert all(s.up.abs().sum() > 0 for s in sinks_of(model))
    with pytest.raises(ConfigError, match=r"sinks\.grow.*no sinks to grow"):
        plan_run(configured(model__pretrained=str(tmp_path), sinks__grow=4))
    drawn = build_model(plan_run(configured(model__pretrained=str(tmp_path), sinks__init="random")))
    assert next(sinks_of(drawn)).down.abs().sum() > 0


@pytest.fixture(scope="module")
def earlier(tmp_path_factory) -> Path:
    """A run that trained IDs 5 and 2**64 - 1: a pool of 12, 4 of them active."""
    folder = tmp_path_factory.mktemp("earlier")
    memsinks.save(sink_model("llama", overrides={"vocab_size": 300}), folder)
    counter = ExposureCounter()
    counter.update([5, 5, 2**64 - 1])
    counter.save(folder)
    return folder


def test_kept_sinks_stay_as_they_are(configured, earlier):
    config = configured(model__pretrained=str(earlier))
    assert brings_sinks(config)
    blueprint = plan_run(config)
    assert (blueprint.sinks.pool, blueprint.sinks.active) == (12, 4)
    model, saved = build_model(blueprint), memsinks.load(earlier)
    assert model.state_dict().keys() == saved.state_dict().keys()
    assert all(torch.equal(value, saved.state_dict()[name]) for name, value in model.state_dict().items())
    assert not isinstance(
        build_model(plan_run(configured(model__pretrained=str(earlier), sinks__attach=False))), SinkModel
    )


@pytest.mark.parametrize(
    ("key", "same", "other"),
    [
        ("pool", 12, 13),
        ("active", 4, 5),
        ("block", 1, 2),
        ("allocation", "hashed", "disjoint"),
        ("kernel", "gathered", "dense"),
        ("init", "auto", "random"),
        ("layers", [], [1]),
        ("mask", "per_layer", "shared"),
    ],
)
def test_kept_sinks_refuse_another_shape(configured, earlier, key, same, other):
    assert plan_run(configured(model__pretrained=str(earlier), **{f"sinks__{key}": same})).sinks.pool == 12
    with pytest.raises(ConfigError, match=rf"sinks\.{key}: .*sinks already"):
        plan_run(configured(model__pretrained=str(earlier), **{f"sinks__{key}": other}))


def test_growth_keeps_the_rows_of_ids_that_the_earlier_run_trained(configured, earlier):
    old = memsinks.load(earlier)
    blueprint = plan_run(configured(model__pretrained=str(earlier), sinks__grow=8))
    assert blueprint.sinks.pool == 12
    model = build_model(blueprint)
    assert model.sink_config.pool == 20
    assert [s.up.shape[0] for s in sinks_of(model)] == [20, 20]
    trained, others = to_tensor([5, 2**64 - 1]), torch.arange(1000, 1100)
    before = old.sink_allocation.rows(trained, old.sink_config, 2)
    assert torch.equal(model.sink_allocation.rows(trained, model.sink_config, 2), before)
    assert model.sink_allocation.rows(others, model.sink_config, 2).min() >= 12
    for mine, theirs in zip(sinks_of(model), sinks_of(old), strict=True):
        assert torch.equal(mine.down[:12], theirs.down)


def test_growth_without_the_record_of_what_was_trained_is_refused(configured, tmp_path):
    memsinks.save(sink_model("llama", overrides={"vocab_size": 300}), tmp_path)
    blueprint = plan_run(configured(model__pretrained=str(tmp_path), sinks__grow=8))
    with pytest.raises(CheckpointError, match=r"exposures\.parquet"):
        build_model(blueprint)


def test_new_owners_join_those_that_a_kept_pool_has(configured, corpus, tmp_path):
    """Disjoint rows of an earlier run stay with their owners; governed IDs of this one get the next."""
    names = training(corpus, 3)
    first, second = ids(corpus, names[:2]), ids(corpus, names[1:])
    model = sink_model("llama", overrides={"vocab_size": 300}, pool=12, active=4, allocation="disjoint")
    memsinks.register(model, first)
    memsinks.save(model, tmp_path)
    settings = {"model__pretrained": str(tmp_path), "exposures__repeat": names[1:], "exposures__times": 2}
    settings |= {"exposures__plan": tmp_path / "plan.parquet"}
    ExposurePlan.once(corpus).only(names[1:]).save(tmp_path / "plan.parquet")
    blueprint = plan_run(configured(**settings))
    assert blueprint.owners.tolist() == second
    built = build_model(blueprint)
    rows = built.sink_allocation.rows(to_tensor([*first, second[1]]), built.sink_config, 1)[0]
    assert rows.flatten().tolist() == list(range(12))


def test_a_budget_is_refused_where_several_processes_train(configured, monkeypatch, tmp_path):
    blueprint = plan_run(configured(exposures__govern="all", exposures__shared_budget=2))
    assert blueprint.text.treatment.shared_budget == 2
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"exposures\.shared_budget trains in one process"):
        train(torch.nn.Linear(1, 1), blueprint.text, blueprint.config, tmp_path)
