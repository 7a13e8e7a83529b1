"""The scripts in examples/, each run as a user would, with facts about what it did."""

import runpy
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM

import memsinks
from memsinks.ids import to_tensor
from memsinks.sinks.attach import sinks_of
from memsinks.sinks.selection import select
from memsinks.stream import Collator

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, monkeypatch: pytest.MonkeyPatch, output: Path) -> dict:
    """Run a script in this process; returns its variables."""
    script = str(EXAMPLES / name)
    monkeypatch.setattr("sys.argv", [script, "--output", str(output)])
    return runpy.run_path(script, run_name="__main__")


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    return tmp_path_factory.mktemp("examples")


def untrained(script: dict):
    """The script's model before its training: sinks are drawn from their own seed, whatever came before."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(script["config"])
    return memsinks.attach(model, script["model"].sink_config).eval()


def only_selected_rows_moved(before, after, ids) -> bool:
    """In every layer the rows of ``ids`` differ, and all others have the same bits."""
    config = after.sink_config
    rows = select(to_tensor(ids), seed=config.seed, layers=2, pool=config.pool, active=config.active, block=1)
    exact = True
    for layer, (old, new) in enumerate(zip(sinks_of(before), sinks_of(after), strict=True)):
        selected = set(rows[layer].flatten().tolist())
        for a, b in zip(old.parameters(), new.parameters(), strict=True):
            exact = exact and {int(i) for i in (a != b).any(1).nonzero()} == selected
    return exact


def loss(model, batch, mode: memsinks.Mode | str) -> float:
    with torch.no_grad(), memsinks.use_sinks(model, mode):
        return float(model(**batch).loss)


# A bare loop


@pytest.fixture(scope="module")
def bare_loop(monkeypatch_module, outputs):
    return run("bare_loop.py", monkeypatch_module, outputs / "bare_loop")


def test_the_bare_loop_has_at_most_forty_lines():
    assert len((EXAMPLES / "bare_loop.py").read_text().splitlines()) <= 40


def test_the_bare_loop_learns_and_its_sinks_hold_the_memory(bare_loop):
    before, after, batch = untrained(bare_loop), bare_loop["model"], bare_loop["repeated"]
    assert loss(after, batch, "own") < 0.3 * loss(before, batch, "own")
    assert loss(after, batch, "own") + 1.5 < loss(after, batch, "off") < loss(before, batch, "off")


def test_the_bare_loop_leaves_idle_rows_alone(bare_loop):
    assert only_selected_rows_moved(untrained(bare_loop), bare_loop["model"], bare_loop["corpus"].sequence_ids[:4])


# transformers' Trainer


@pytest.fixture(scope="module")
def plain_trainer(monkeypatch_module, outputs):
    return run("plain_trainer.py", monkeypatch_module, outputs / "plain_trainer")


def test_the_plain_trainer_keeps_our_columns_and_learns(plain_trainer):
    trainer = plain_trainer["trainer"]
    columns = {"input_ids", "labels", "position_ids", "sequence_ids", "sink_mask"}
    assert trainer.args.remove_unused_columns
    assert set(next(iter(trainer.get_train_dataloader()))) == columns
    losses = plain_trainer["losses"]
    assert losses[-1] < losses[0] - 1


def test_the_plain_trainer_leaves_idle_rows_alone(plain_trainer):
    ids = plain_trainer["corpus"].sequence_ids[:4]
    assert only_selected_rows_moved(untrained(plain_trainer), plain_trainer["model"], ids)


def test_the_plain_trainer_saves_a_plain_checkpoint_and_the_sinks(plain_trainer):
    directory, model = plain_trainer["output"] / "model", plain_trainer["model"].eval()
    rows = plain_trainer["rows"]
    batch = Collator(0)([rows[0]])
    plain_batch = {k: batch[k] for k in ("input_ids", "position_ids")}
    plain = AutoModelForCausalLM.from_pretrained(directory)
    with torch.no_grad(), memsinks.sinks_off(model):
        assert torch.equal(plain(**plain_batch, use_cache=False).logits, model(**plain_batch).logits)
    with torch.no_grad():
        assert torch.equal(memsinks.load(directory)(**batch).logits, model(**batch).logits)


# PEFT

PEFT_WARNING = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.fixture(scope="module")
def peft_lora(monkeypatch_module, outputs):
    pytest.importorskip("peft")
    # Its second part lets an adapter learn beside the sinks.
    with pytest.warns(memsinks.IsolationWarning) as found:
        content = run("peft_lora.py", monkeypatch_module, outputs / "peft_lora")
    assert sum(warning.category is memsinks.IsolationWarning for warning in found) == 1
    return content


@PEFT_WARNING
def test_frozen_sinks_do_not_move_while_lora_learns(peft_lora):
    base = peft_lora["model"]
    for name in ("frozen", "wrapped", "merged"):
        for old, new in zip(sinks_of(base), sinks_of(peft_lora[name]), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(old.parameters(), new.parameters(), strict=True))
    assert peft_lora["frozen_losses"][-1] < peft_lora["frozen_losses"][0] - 0.3
    trained = {name for name, p in peft_lora["frozen"].named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)


@PEFT_WARNING
@pytest.mark.parametrize("mode", ["own", "off", "placebo", "all"])
def test_modes_work_through_the_wrapper_and_merging_keeps_them(peft_lora, mode):
    """LoRA on up and down projections wraps the modules that sinks join; their term must stay."""
    wrapped, merged, batch = peft_lora["wrapped"], peft_lora["merged"], peft_lora["probe"]
    assert wrapped.get_base_model().model.layers[0].mlp.down_proj.base_layer is not None
    with torch.no_grad(), memsinks.use_sinks(wrapped, mode), memsinks.use_sinks(merged, mode):
        through_wrapper, through_merged = wrapped(**batch).logits, merged(**batch).logits
    torch.testing.assert_close(through_merged, through_wrapper, atol=1e-4, rtol=1e-4)
    if mode != "off":
        with torch.no_grad(), memsinks.sinks_off(wrapped):
            assert (wrapped(**batch).logits - through_wrapper).abs().max() > 0.1


@PEFT_WARNING
def test_a_merged_model_is_saved_and_exported_like_any_other(peft_lora):
    merged, batch = peft_lora["merged"], peft_lora["probe"]
    inputs = {k: batch[k] for k in ("input_ids", "position_ids")}
    plain = AutoModelForCausalLM.from_pretrained(peft_lora["output"] / "merged")
    with torch.no_grad(), memsinks.sinks_off(merged):
        expected = merged(**inputs).logits
        assert torch.equal(plain(**inputs, use_cache=False).logits, expected)
        assert torch.equal(memsinks.fold(merged, "off")(**inputs, use_cache=False).logits, expected)
    with torch.no_grad():
        again = memsinks.load(peft_lora["output"] / "merged")(**batch).logits
        assert torch.equal(again, merged(**batch).logits)


@PEFT_WARNING
def test_freed_sinks_take_up_new_text_beside_lora(peft_lora):
    learned, batch = peft_lora["learned"], peft_lora["probe"]
    assert only_selected_rows_moved(peft_lora["model"], learned, peft_lora["corpus"].sequence_ids[4:8])
    assert loss(learned, batch, "own") + 1 < loss(learned, batch, "off")


@PEFT_WARNING
def test_the_wrapper_generates_with_sequence_ids(peft_lora):
    wrapped, merged, ids = peft_lora["wrapped"], peft_lora["merged"], to_tensor([3, 7])
    prompt = peft_lora["probe"]["input_ids"][:2, :8]
    options = {"max_new_tokens": 6, "do_sample": False, "attention_mask": torch.ones_like(prompt)}
    expected = merged.generate(prompt, sequence_ids=ids, **options)
    assert torch.equal(wrapped.generate(input_ids=prompt, sequence_ids=ids, **options), expected)
    with memsinks.sinks_off(wrapped):
        assert not torch.equal(wrapped.generate(input_ids=prompt, sequence_ids=ids, **options), expected)


# lm_eval


@pytest.fixture(scope="module")
def lm_eval_table(monkeypatch_module, outputs):
    pytest.importorskip("lm_eval")
    return run("lm_eval_modes.py", monkeypatch_module, outputs / "lm_eval")["table"]


def test_lm_eval_with_sinks_off_is_the_plain_checkpoint_exactly(lm_eval_table):
    assert lm_eval_table["off"] == lm_eval_table["plain checkpoint"]


def test_lm_eval_sees_the_modes(lm_eval_table):
    bits = {mode: row["bits_per_byte"] for mode, row in lm_eval_table.items() if mode != "plain checkpoint"}
    assert len(set(bits.values())) == len(bits) == 5
    assert bits["own"] < 0.5 * min(v for mode, v in bits.items() if mode != "own")
    assert lm_eval_table["own"]["acc"] == 1


# The pipeline


@pytest.fixture(scope="module")
def pipeline_texts(monkeypatch_module, outputs):
    script = run("pipeline_generate.py", monkeypatch_module, outputs / "pipeline")
    assert isinstance(script["model"], LlamaForCausalLM)
    return script["texts"]


def test_the_pipeline_with_sinks_off_writes_the_plain_model_s_text(pipeline_texts):
    assert pipeline_texts["off"] == pipeline_texts["plain checkpoint"]
    assert pipeline_texts["off"] != pipeline_texts["the stories"]


@pytest.mark.parametrize("how", ["own: each story's sinks", "own, 3 beams"])
def test_the_pipeline_carries_an_id_for_each_row(pipeline_texts, how):
    """Rows of different lengths, padded on the left, each recited by its own sinks."""
    assert pipeline_texts[how] == pipeline_texts["the stories"]


def test_chosen_sinks_serve_every_row_of_the_pipeline(pipeline_texts):
    chosen = pipeline_texts["chosen: the first story's sinks for both"]
    assert chosen[0] == pipeline_texts["the stories"][0]
    assert chosen[1] not in (pipeline_texts["the stories"][1], pipeline_texts["off"][1])
