"""The section ``recovery`` on models whose knowledge of the target is known: none, open, hidden, and in sinks."""

import copy
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

import memsinks
from memsinks.audit import TokenizedDocument, document_losses
from memsinks.audit.controls import Contrast
from memsinks.auditing.bench import Bench
from memsinks.auditing.conditions import Condition
from memsinks.auditing.config import AuditConfig, TextConfig
from memsinks.auditing.config_recovery import RecoveryConfig
from memsinks.auditing.relearning import parted, reached, relearning
from memsinks.auditing.sections import recovery
from memsinks.auditing.sections.recovery.activation import attacks
from memsinks.auditing.sections.recovery.coarsening import changes
from memsinks.auditing.sections.recovery.common import attacked
from memsinks.auditing.texts import Texts
from memsinks.auditing.verdicts import verdicts
from memsinks.baselines.text import mean_loss, padded
from memsinks.errors import ConfigError, InputError

VOCABULARY, LENGTH, TARGET, UNSEEN, GENERAL = 48, 24, 8, 64, 800
SETTINGS = RecoveryConfig(
    controls=5, steps=8, rate=7e-4, prefix=8, suffix=8, unseen=24, decoder_steps=30, tries=2, prune=(0.3,), group=16
)
CONFIG = AuditConfig(text=TextConfig(max_length=LENGTH), recovery=SETTINGS)


@dataclass
class FewTexts:
    """What the section asks of a corpus."""

    rows: list[np.ndarray]

    def __post_init__(self):
        self.documents = [f"d{i}" for i in range(len(self.rows))]
        self.sources = ["all"] * len(self.rows)
        self.sequence_ids = np.arange(1000, 1000 + len(self.rows), dtype=np.uint64)
        self.sequence_ids[:TARGET] = 7  # one ID for all of the target
        self.lengths = np.array([len(row) for row in self.rows])

    def tokens(self, number):
        return self.rows[number]


def grammar(count, seed=0):
    """Text with something to learn: each token is the one before it plus one, two, three or four."""
    random = np.random.default_rng(seed)
    steps = random.integers(1, 5, (count, LENGTH))
    return list((random.integers(0, VOCABULARY, (count, 1)) + steps.cumsum(axis=1)) % VOCABULARY)


def texts_of(rows, target=TARGET):
    numbers = np.arange(len(rows))
    return Texts(
        corpus=FewTexts(rows),
        target=numbers[:target],
        complete=True,
        unseen=numbers[target : target + UNSEEN],
        same_source=True,
        survivors={"others": numbers[target + UNSEEN : target + UNSEEN + 6]},
        validation={},
    )


TEXTS = texts_of(grammar(TARGET + UNSEEN + GENERAL))


def documents_of(numbers):
    return TEXTS.documents(numbers)


def trained(model, documents, steps, rate=3e-3, ascend=(), only=None):
    """Train; with ``ascend``, away from that text as well; with ``only``, the parameters whose names begin so."""
    model = copy.deepcopy(model)
    chosen = [p for name, p in model.named_parameters() if only is None or name.startswith(only)]
    optimizer, random = torch.optim.AdamW(chosen, lr=rate, weight_decay=0.0), np.random.default_rng(0)
    for _ in range(steps):
        chosen = [documents[i] for i in random.integers(len(documents), size=16)]
        loss = mean_loss(model, *padded(chosen, LENGTH))
        if ascend:
            loss = loss - 0.5 * mean_loss(model, *padded(ascend, LENGTH)).clamp(max=3)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model


def mean(model, documents):
    return document_losses(model, documents, mode=None, max_length=LENGTH).mean


@pytest.fixture(scope="module")
def models():
    """Never trained on the target; trained on it; and trained on it and then away from it, until it seems unknown."""
    target, general = documents_of(TEXTS.target), documents_of(np.arange(TARGET + UNSEEN, len(TEXTS.corpus.rows)))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=LENGTH,
    )  # fmt: skip
    innocent = trained(AutoModelForCausalLM.from_config(config), general, 250)
    knows = trained(innocent, [*target * 40, *general[:320]], 150)
    hidden = knows
    for _ in range(40):
        hidden = trained(hidden, general, 2, rate=5e-4, ascend=target)
        if mean(hidden, target) > mean(hidden, documents_of(TEXTS.unseen)):
            break
    return {"innocent": innocent, "knows": knows, "hidden": hidden}


@pytest.fixture(scope="module")
def saved(models, tmp_path_factory):
    home = tmp_path_factory.mktemp("models")
    for name, model in models.items():
        model.save_pretrained(home / name)
    return home


def bench_of(tmp_path, config=CONFIG, **folders):
    conditions = {
        name: Condition(name=name, says="", folder=folder, mode="own" if (folder / "sinks.json").exists() else None)
        for name, folder in folders.items()
    }
    return Bench(TEXTS, conditions, config, tmp_path / "work")


def run(bench, *names, condition=None):
    """The findings of the section's tasks of some names."""
    return [
        task.run(bench)
        for task in recovery.tasks(bench, bench.config)
        if task.name in names and condition in (None, task.condition)
    ]


def figure(findings, measure, texts="target", condition=None):
    (found,) = [
        f
        for part in findings
        for f in part.figures
        if f.measure.startswith(measure) and f.texts == texts and condition in (None, f.condition)
    ]
    return found


def answer(findings, key):
    (found,) = [v for v in verdicts([f for part in findings for f in part.figures], complete=False) if v.key == key]
    return found


def test_the_models_are_what_they_are_meant_to_be(models):
    target, unseen = documents_of(TEXTS.target), documents_of(TEXTS.unseen)
    assert abs(mean(models["innocent"], target) - mean(models["innocent"], unseen)) < 0.1
    assert mean(models["knows"], target) < 0.2
    assert mean(models["hidden"], target) > mean(models["hidden"], unseen)


@pytest.mark.parametrize(("name", "expected"), [("innocent", "no"), ("knows", "yes"), ("hidden", "yes")])
def test_relearning_tells_removal_from_suppression(saved, tmp_path, name, expected):
    found = run(bench_of(tmp_path, model=saved / name), "relearning")
    assert answer(found, "returns").answer == expected, answer(found, "returns").says
    steps = figure(found, "steps until")
    assert (steps.value == 0) == (name == "knows")
    assert "90% of what unseen text has" in steps.note


def test_a_reference_that_never_saw_the_text_has_its_own_line(saved, tmp_path):
    found = run(bench_of(tmp_path, model=saved / "hidden", reference=saved / "innocent"), "relearning")
    own = figure(found, "return of the other half", condition="model")
    never = figure(found, "return of the other half", condition="reference")
    assert own.low > never.high
    assert never.low < 0 < never.high
    curves = [c for part in found for c in part.curves if c.condition == "model" and c.measure.endswith("other half")]
    assert [c.texts for c in curves] == ["target", "unseen"]
    assert curves[0].x[0] == 0 < curves[0].x[-1]
    assert curves[0].y[-1] < curves[1].low[-1]


def test_twenty_sets_that_were_never_trained_are_not_accused(models):
    numbers = np.random.default_rng(5).permutation(np.arange(TARGET, TARGET + UNSEEN))
    sets = [documents_of(numbers[4 * i : 4 * i + 4]) for i in range(16)]
    falls = []
    for documents in sets:
        first, rest = parted(documents, LENGTH)
        points = relearning(
            models["innocent"], first, {"rest": rest}, steps=8, rate=7e-4, rows=8, max_length=LENGTH, seed=0
        )
        falls.append(points[0].losses["rest"].mean - points[-1].losses["rest"].mean)
    random, accused = np.random.default_rng(0), 0
    for _ in range(20):
        chosen = random.choice(len(falls), size=6, replace=False)
        interval = Contrast(falls[chosen[0]], tuple(falls[i] for i in chosen[1:])).interval(0.9)
        accused += interval.low > 0
    # At 5 % one-sided, four or more of twenty have a chance of 1.6 %.
    assert accused <= 3


def test_related_text_says_what_it_was(saved, tmp_path):
    found = run(bench_of(tmp_path, model=saved / "hidden"), "related")
    shown = figure(found, "return from related text")
    assert "surviving text of the same sources" not in shown.note  # the target's source has no survivors
    assert "unseen text" in shown.note
    assert shown.question == ""


def test_coarse_weights_are_no_proof_against_a_model_that_knows_the_text(saved, tmp_path):
    found = run(bench_of(tmp_path, model=saved / "knows", reference=saved / "innocent"), "compression")
    for change in ("weights as they are", "int8, per channel", "int4, groups of 16", "30% pruned"):
        measure = f"8 tokens word for word, {change}"
        assert figure(found, measure, condition="model").value >= 0.75, change
        assert figure(found, measure, "unseen", "model").value <= 0.1
        assert figure(found, measure, condition="reference").value <= 0.13
    assert answer(found, "extractable").answer == "yes"


def test_a_model_that_never_saw_the_text_gives_nothing_when_rounded(saved, tmp_path):
    found = run(bench_of(tmp_path, model=saved / "innocent"), "compression")
    assert answer(found, "extractable").answer != "yes"
    fall = figure(found, "fall of loss beyond unseen text, int8")
    assert fall.low < 0 < fall.high


def test_text_that_only_the_last_layer_hides_is_read_from_the_one_before(models, tmp_path):
    knows = models["knows"]
    config = copy.deepcopy(knows.config)
    config.num_hidden_layers = 3
    model = AutoModelForCausalLM.from_config(config)
    model.load_state_dict(knows.state_dict(), strict=False)
    hiding = model.model.layers[2]
    for projection in (hiding.self_attn.o_proj, hiding.mlp.down_proj):
        torch.nn.init.zeros_(projection.weight)
    target = documents_of(TEXTS.target)
    assert mean(model, target) == pytest.approx(mean(knows, target), abs=1e-3)
    general = documents_of(np.arange(TARGET + UNSEEN, TARGET + UNSEEN + 320))
    model = trained(model, general, 40, ascend=target, only="model.layers.2.")
    model.save_pretrained(tmp_path / "hides")
    found = run(bench_of(tmp_path, model=tmp_path / "hides"), "lenses")
    assert mean(model, target) > 1.5
    gain, of_unseen = (figure(found, "gain over the output, linear lens, layer 2", t) for t in ("target", "unseen"))
    assert gain.low > of_unseen.high + 0.1


def test_probes_read_no_more_of_unseen_text_than_the_output_says(saved, tmp_path):
    found = run(bench_of(tmp_path, model=saved / "innocent"), "lenses", "sorting")
    for measure in ("gain over the output, linear lens, layer 1", "gain over the output, small decoder"):
        of = {texts: figure(found, measure, texts) for texts in ("target", "unseen")}
        assert of["target"].low < of["unseen"].high
        assert of["unseen"].low < of["target"].high
        assert of["target"].value < 0.1
    curves = {(c.measure, c.texts): c for part in found for c in part.curves}
    line = curves["loss by layer, linear lens", "target"]
    assert line.x == (1.0, 2.0)
    assert curves["loss by layer, logit lens", "target"].y[-1] == line.y[-1]
    probe = figure(found, "linear probe, layer 2")
    assert probe.low < 0 < probe.high


def test_the_middle_of_a_model_that_knows_a_text_knows_less_of_it_than_the_end(saved, tmp_path):
    found = run(bench_of(tmp_path, model=saved / "knows"), "lenses")
    curves = {(c.measure, c.texts): c.y for part in found for c in part.curves}
    for lens in ("linear lens", "logit lens"):
        middle, end = curves[f"loss by layer, {lens}", "target"]
        assert middle > end + 0.3
    assert figure(found, "gain over the output, small decoder").high < 0
    assert figure(found, "loss, small decoder").value < figure(found, "loss, small decoder", "unseen").value - 0.2


@pytest.fixture(scope="module")
def with_sinks(models, tmp_path_factory):
    """The innocent model with sinks of the target's documents, which alone learned them."""
    model = memsinks.attach(
        copy.deepcopy(models["innocent"]), memsinks.SinkConfig(allocation="disjoint", active=32, pool=32)
    )
    target = documents_of(TEXTS.target)
    memsinks.register(model, [7])
    sinks = [p for layer in memsinks.sinks.attach.sinks_of(model) for p in layer.parameters(recurse=False)]
    optimizer = torch.optim.AdamW(sinks, lr=2e-2, weight_decay=0.0)
    inputs, labels = padded(target, LENGTH)
    ids = memsinks.ids.to_tensor([d.sequence_id for d in target])
    for _ in range(120):
        optimizer.zero_grad()
        logits = model(input_ids=inputs, sequence_ids=ids, use_cache=False).logits[:, :-1]
        torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels[:, 1:], ignore_index=-100).backward()
        optimizer.step()
    folder = tmp_path_factory.mktemp("with") / "sinks"
    memsinks.save(model, folder)
    return folder


def sinks_bench(tmp_path, folder):
    bench = bench_of(tmp_path, own=folder)
    ids = TEXTS.target_ids
    bench.conditions["removed"] = replace(bench.conditions["own"], name="removed", without=ids)
    for name in ("off", "placebo"):
        bench.conditions[name] = replace(bench.conditions["own"], name=name, mode=name)
    return bench


def test_a_stolen_list_of_ids_gives_the_text_before_removal_and_nothing_after(with_sinks, tmp_path):
    found = run(sinks_bench(tmp_path, with_sinks), "activation")
    loss = {c: figure(found, "loss, stolen IDs", condition=c).value for c in ("own", "removed")}
    assert loss["own"] < loss["removed"] - 0.3
    for attack in ("stolen IDs", "every sink", "unrelated ID", "random IDs", "a survivor's ID", "all survivors' IDs"):
        assert figure(found, f"loss, {attack}", condition="removed").value == pytest.approx(loss["removed"], abs=1e-5)
    assert answer(found, "extractable").answer != "yes"


def test_every_attack_runs_after_all_sinks_are_removed(with_sinks, tmp_path):
    bench = sinks_bench(tmp_path, with_sinks)
    assert not any(len(layer.up) for layer in memsinks.sinks.attach.sinks_of(bench.opened("removed").model))
    for task in recovery.tasks(bench, CONFIG):
        if task.condition == "removed":
            assert task.run(bench).figures, task.name


def test_attacks_of_weights_leave_out_controls_and_what_is_the_same_twice(with_sinks, tmp_path):
    bench = sinks_bench(tmp_path, with_sinks)
    assert attacked(bench) == ["own", "removed"]
    conditions = {task.name: [] for task in recovery.tasks(bench, CONFIG)}
    for task in recovery.tasks(bench, CONFIG):
        conditions[task.name].append(task.condition)
        assert task.cost.forward > 0
    assert set(map(tuple, conditions.values())) == {("own", "removed")}
    del bench.conditions["removed"]
    assert attacked(bench) == ["own", "off"]


def test_wrong_ids_are_those_of_survivors_and_never_the_targets(with_sinks, tmp_path):
    found = attacks(sinks_bench(tmp_path, with_sinks))
    survivors = set(TEXTS.corpus.sequence_ids[TEXTS.survivors["others"]].tolist())
    assert len(found["a survivor's ID"]) == SETTINGS.tries
    assert {i for mode in found["a survivor's ID"] for i in mode.ids} <= survivors
    assert set(found["all survivors' IDs"][0].ids) == survivors
    assert not {i for mode in found["random IDs"] for i in mode.ids} & set(TEXTS.target_ids)


def test_ids_on_both_sides_of_the_sign_are_told_from_their_neighbours(with_sinks, tmp_path):
    bench = sinks_bench(tmp_path, with_sinks)
    corpus = FewTexts(TEXTS.corpus.rows)
    corpus.sequence_ids[:2] = 7, 2**63 + 5
    corpus.sequence_ids[TEXTS.survivors["others"][0]] = 2**63 + 6
    bench.texts = replace(TEXTS, corpus=corpus)
    assert 2**63 + 6 in attacks(bench)["all survivors' IDs"][0].ids


@pytest.mark.parametrize("task", ["activation", "compression"])
def test_documents_too_short_for_a_passage_have_no_rate_and_the_rest_is_measured(with_sinks, tmp_path, task):
    bench = sinks_bench(tmp_path, with_sinks)
    bench.config = replace(CONFIG, recovery=replace(SETTINGS, prefix=16, suffix=16))
    found = run(bench, task, condition="removed")
    rates = [f for part in found for f in part.figures if f.unit == "rate"]
    assert rates
    assert all(f.value is None and "long enough" in f.note for f in rates)
    assert all(f.value > 0 for part in found for f in part.figures if f.measure.startswith("loss"))


@pytest.mark.parametrize("names", [("relearning",), ("lenses", "sorting"), ("compression",)])
def test_the_same_seed_gives_the_same_figures(saved, tmp_path, names):
    bench = bench_of(tmp_path, model=saved / "hidden")
    assert run(bench, *names) == run(bench, *names)


def test_fractions_that_round_to_one_percentage_are_all_pruned():
    assert set(changes(replace(SETTINGS, bits=(), prune=(0.101, 0.104, 0.3)))) == {
        "10.1% pruned",
        "10.4% pruned",
        "30% pruned",
    }


def test_too_little_held_out_text_is_said(saved, tmp_path):
    bench = bench_of(tmp_path, model=saved / "innocent")
    bench.texts = replace(TEXTS, unseen=TEXTS.unseen[:4])
    with pytest.raises(InputError, match="4 unseen documents do not make 5 control sets"):
        run(bench, "relearning")


def test_halves_that_are_more_alike_than_controls_decide_nothing_without_a_reference(saved, tmp_path):
    rows = grammar(TARGET + UNSEEN + GENERAL)
    rows[:TARGET] = [rows[0]] * TARGET  # one text eight times: training half of it is training all of it
    bench = bench_of(tmp_path, model=saved / "innocent")
    bench.texts = texts_of(rows)
    alone = figure(run(bench, "relearning"), "return of the other half")
    assert alone.low > 0
    assert alone.question == ""
    assert "decides nothing" in alone.note
    bench.conditions["reference"] = replace(bench.conditions["model"], name="reference")
    found = run(bench, "relearning")
    assert figure(found, "return of the other half", condition="model").question == "returns"
    assert answer(found, "returns").answer != "yes"


def test_of_few_documents_the_first_half_of_each_is_trained():
    documents = documents_of(TEXTS.target[:2])
    first, rest = parted(documents, LENGTH)
    assert [len(d.tokens) for d in first] == [12, 12]
    assert [(len(d.tokens), d.scored_from) for d in rest] == [(24, 12), (24, 12)]
    four = documents_of(TEXTS.target[:5])
    assert [[d.name for d in part] for part in parted(four, LENGTH)] == [["d0", "d2", "d4"], ["d1", "d3"]]
    with pytest.raises(InputError, match="halves of it need 4"):
        parted([TokenizedDocument("short", np.arange(3), 0)], LENGTH)


def test_when_a_loss_is_reached_is_read_between_two_measurements(models):
    first, _ = parted(documents_of(TEXTS.target), LENGTH)
    points = relearning(models["innocent"], first, {"a": first}, steps=4, rate=2e-3, rows=2, max_length=LENGTH, seed=0)
    assert [point.step for point in points] == [0, 1, 2, 4]
    assert [point.tokens for point in points] == [0, 46, 92, 184]  # two documents a step, the first token is not scored
    before, after = (points[n].losses["a"].mean for n in (2, 3))
    steps, tokens = reached(points, "a", (before + after) / 2)
    assert (steps, tokens) == (pytest.approx(3), pytest.approx(138))
    assert reached(points, "a", points[0].losses["a"].mean) == (0, 0)
    assert reached(points, "a", 0.0) is None


def test_small_steps_are_not_lost_on_a_model_in_half_precision(models):
    half = copy.deepcopy(models["innocent"]).bfloat16()
    text = documents_of(TEXTS.target)
    options = {"steps": 8, "rate": 1e-4, "rows": 8, "max_length": LENGTH, "seed": 0}
    falls = [
        points[0].losses["text"].mean - points[-1].losses["text"].mean
        for points in (relearning(model, text, {"text": text}, **options) for model in (models["innocent"], half))
    ]
    assert falls[0] > 0
    assert falls[1] == pytest.approx(falls[0], rel=0.25)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("controls", 2), ("steps", 0), ("rate", 0.0), ("bits", (1,)), ("bits", (9,)), ("prune", (0.0,)),
        ("prune", (1.0,)), ("relearned", 1.0), ("unseen", 7), ("tries", 0),
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(setting, value):
    with pytest.raises(ConfigError, match=f"recovery.{setting} must"):
        RecoveryConfig(**{setting: value})
