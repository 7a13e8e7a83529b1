"""Training through transformers' Trainer, ours and the stock one, on a few hand-made rows."""

import json
import shutil
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from families import VOCABULARY, plain_model, sink_model, tokens
from selection_reference import reference_rows
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

import memsinks
from memsinks import SinkAdamW, SinkTrainer
from memsinks.errors import CheckpointError, SequenceIdError, TrainingError
from memsinks.sinks.attach import sinks_of
from memsinks.stream import Collator
from memsinks.training.batches import RankBatches
from memsinks.training.exposures import ExposureCounter
from memsinks.training.stopping import MOST_SKIPPED, StopOnSkipped

IDS = (0, 3, 2**63, 2**64 - 1, 12345)


def corpus(count: int = 40) -> list[dict]:
    rng = np.random.default_rng(0)
    rows = []
    for i in range(count):
        length = int(rng.integers(4, 10))
        sequence_id = IDS[int(rng.integers(len(IDS)))]
        rows.append(
            {
                "input_ids": rng.integers(3, VOCABULARY, length).tolist(),
                "sequence_ids": [sequence_id] * length,
                "sink_mask": [i % 4 != 0] * length,
                "exposed_ids": [sequence_id],
            }
        )
    return rows


def arguments(directory, **options) -> TrainingArguments:
    defaults = {
        "per_device_train_batch_size": 3,
        "gradient_accumulation_steps": 2,
        "max_steps": 6,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "cosine",
        "max_grad_norm": 0.5,
        "save_steps": 3,
        "logging_steps": 1,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    return TrainingArguments(output_dir=str(directory), **{**defaults, **options})


def sink_trainer(directory, model=None, rows=None, eval_rows=None, **options) -> SinkTrainer:
    return SinkTrainer(
        model or sink_model("llama"),
        arguments(directory, **options),
        train_dataset=rows or corpus(),
        eval_dataset=eval_rows,
        data_collator=Collator(0, with_exposures=True),
        sink_lr_multiplier=5.0,
        sink_weight_decay=0.1,
    )


def weights(model) -> dict:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def optimizer_state(trainer) -> dict:
    saved = trainer.optimizer.state_dict()
    flat = {f"{i}.{k}": v for i, values in saved["state"].items() for k, v in values.items()}
    return {**flat, "groups": json.dumps(saved["param_groups"], sort_keys=True, default=str)}


def assert_same(left: dict, right: dict) -> None:
    assert left.keys() == right.keys()
    for key, value in left.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, right[key]), key
        else:
            assert value == right[key], key


def exposed(rows: list[dict]) -> Counter:
    return Counter(i for row in rows for i in row["exposed_ids"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Six steps without a break, with checkpoints after the third and the last."""
    directory = tmp_path_factory.mktemp("whole")
    trainer = sink_trainer(directory)
    trainer.train()
    return trainer, directory


def test_training_moves_shared_weights_and_sinks(whole):
    trainer, _ = whole
    before = weights(sink_model("llama"))
    for name, value in weights(trainer.model).items():
        assert not torch.equal(value, before[name]), name
        assert value.isfinite().all()
    logs = [log for log in trainer.state.log_history if "loss" in log]
    assert len(logs) == 6
    assert all(np.isfinite([log["loss"], log["grad_norm"]]).all() for log in logs)
    assert logs[0]["grad_norm"] > 0


def test_resuming_is_bitwise(whole, tmp_path):
    trainer, directory = whole
    torch.manual_seed(99)
    resumed = sink_trainer(tmp_path, model=sink_model("llama"))
    with torch.no_grad():
        for parameter in resumed.model.parameters():
            parameter.zero_()  # everything has to come from the checkpoint
    resumed.train(resume_from_checkpoint=str(directory / "checkpoint-3"))
    assert resumed.state.global_step == 6
    assert_same(weights(resumed.model), weights(trainer.model))
    assert_same(optimizer_state(resumed), optimizer_state(trainer))
    assert resumed.exposures.counts == trainer.exposures.counts
    assert resumed.exposures.tokens == trainer.exposures.tokens
    for name in ("model.safetensors", "sinks.safetensors", "exposures.parquet"):
        ours, theirs = (d / "checkpoint-6" / name for d in (tmp_path, directory))
        assert ours.read_bytes() == theirs.read_bytes(), name
    logs = {log["step"]: log for log in trainer.state.log_history if "loss" in log}
    for log in resumed.state.log_history:
        if log.get("step", 0) > 3 and "loss" in log:
            assert log["loss"] == logs[log["step"]]["loss"]
            assert log["grad_norm"] == logs[log["step"]]["grad_norm"]


def test_resuming_is_bitwise_where_some_layers_have_sinks(tmp_path):
    options = {"layers": (1,), "mask": "shared"}
    whole = sink_trainer(tmp_path / "whole", model=sink_model("llama", **options))
    whole.train()
    resumed = sink_trainer(tmp_path / "resumed", model=sink_model("llama", **options))
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert_same(weights(resumed.model), weights(whole.model))
    assert_same(optimizer_state(resumed), optimizer_state(whole))
    rows = safetensors.torch.load_file(tmp_path / "whole" / "checkpoint-3" / "sinks.safetensors")
    assert {name.rpartition(".")[0] for name in rows} == {"layers.1"}


def test_stopping_early_is_where_the_whole_run_was(whole, tmp_path):
    """The checkpoint after three steps is the state of a run that never went further."""
    _, directory = whole
    saved = memsinks.load(directory / "checkpoint-3")
    last = memsinks.load(directory / "checkpoint-6")
    assert not torch.equal(next(sinks_of(saved)).down, next(sinks_of(last)).down)
    counter = ExposureCounter()
    counter.load(directory / "checkpoint-3")
    assert counter.counts == exposed(corpus()[: 3 * 6])


@pytest.mark.parametrize("step", [3, 6])
def test_checkpoints_hold_plain_weights_and_sinks_apart(whole, step):
    trainer, directory = whole
    checkpoint = directory / f"checkpoint-{step}"
    plain = safetensors.torch.load_file(checkpoint / "model.safetensors")
    assert plain.keys() == plain_model("llama").state_dict().keys()
    stock, info = AutoModelForCausalLM.from_pretrained(checkpoint, output_loading_info=True)
    assert not any(info.values()), info
    loaded, x, ids = memsinks.load(checkpoint), tokens(), torch.tensor([0, 3, -1])
    with memsinks.sinks_off(loaded):
        assert torch.equal(loaded(input_ids=x).logits, stock(input_ids=x).logits)
    if step == 6:
        trainer.model.eval()
        assert torch.equal(
            loaded(input_ids=x, sequence_ids=ids).logits, trainer.model(input_ids=x, sequence_ids=ids).logits
        )


def test_exposures_are_counted_exactly(whole):
    trainer, directory = whole
    used = corpus()[: 6 * 6]
    assert trainer.exposures.counts == exposed(used)
    table = pq.read_table(directory / "checkpoint-6" / "exposures.parquet")
    assert str(table.schema.field("sequence_id").type) == "uint64"
    assert dict(zip(*(table[c].to_pylist() for c in ("sequence_id", "exposures")), strict=True)) == exposed(used)
    assert max(table["sequence_id"].to_pylist()) == 2**64 - 1
    assert trainer.exposures.tokens == sum(len(row["input_ids"]) for row in used)


def test_rows_come_in_the_stream_s_order_with_a_short_last_batch(tmp_path):
    rows = corpus(10)
    seen = []

    class Watching(Collator):
        def __call__(self, batch):
            seen.extend(batch)
            return super().__call__(batch)

    trainer = sink_trainer(tmp_path, rows=rows, max_steps=-1, num_train_epochs=2, save_strategy="no")
    trainer.data_collator = Watching(0, with_exposures=True)
    trainer.train()
    assert seen == rows * 2
    assert trainer.exposures.counts == exposed(rows * 2)


def test_only_selected_rows_move(tmp_path):
    """Through accelerate's wrapper and Trainer's loop, clipping and schedule as well."""
    rows = [dict(row, sequence_ids=[7] * len(row["input_ids"])) for row in corpus(12)]
    trainer = sink_trainer(tmp_path, rows=rows, max_steps=2, save_strategy="no")
    before = weights(trainer.model)
    trainer.train()
    for layer, sinks in enumerate(sinks_of(trainer.model)):
        chosen = set(reference_rows(7, seed=0, layer=layer, pool=12, active=4))
        old = before[f"model.layers.{layer}.mlp.sinks.down"]
        assert {int(r) for r in (sinks.down != old).any(1).nonzero()} == chosen


def test_a_loss_that_is_not_finite_is_skipped_and_counted(tmp_path):
    class Broken(SinkTrainer):
        def compute_loss(self, *args, **kwargs):
            loss = super().compute_loss(*args, **kwargs)
            return loss * float("nan") if self.state.global_step == 1 else loss

    trainer = sink_trainer(tmp_path, max_steps=3, save_strategy="no")
    trainer.__class__ = Broken
    trainer.train()
    assert trainer._sink_optimizer().skipped_steps == 1
    assert all(p.isfinite().all() for p in trainer.model.parameters())


@pytest.mark.parametrize("every", [1, 2])
def test_a_run_of_which_every_step_is_left_out_ends_with_an_error(tmp_path, every):
    class Broken(SinkTrainer):
        def compute_loss(self, *args, **kwargs):
            loss = super().compute_loss(*args, **kwargs)
            return loss if self.state.global_step % every else loss * float("nan")

    trainer = sink_trainer(tmp_path, max_steps=2 * MOST_SKIPPED, save_strategy="no")
    trainer.__class__ = Broken
    trainer.add_callback(StopOnSkipped(lambda: trainer.skipped_steps))
    if every == 2:
        trainer.train()
        return
    with pytest.raises(TrainingError, match=f"{MOST_SKIPPED} steps in a row.*learning_rate"):
        trainer.train()
    assert trainer.state.global_step == MOST_SKIPPED


def test_training_without_ids_is_refused(tmp_path):
    trainer = sink_trainer(tmp_path)
    trainer.data_collator = lambda rows: {
        k: v for k, v in Collator(0)(rows).items() if k not in ("sequence_ids", "sink_mask")
    }
    with pytest.raises(SequenceIdError, match="sequence_ids in training"):
        trainer.train()


@pytest.mark.parametrize("name", ["sinks.safetensors", "sinks.json", "exposures.parquet"])
def test_resuming_needs_every_part(whole, tmp_path, name):
    _, directory = whole
    checkpoint = tmp_path / "checkpoint-3"
    shutil.copytree(directory / "checkpoint-3", checkpoint)
    (checkpoint / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        sink_trainer(tmp_path).train(resume_from_checkpoint=str(checkpoint))


def test_a_disk_that_fills_up_in_torch_own_file_is_told_as_any_other(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")

    trainer = sink_trainer(tmp_path)
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match="make room"):
        trainer.train()
    assert not list(tmp_path.rglob("checkpoint-*"))


def test_the_best_model_comes_back_with_its_sinks(tmp_path):
    """Shared weights of one step with the sinks of another would be a model that never was."""
    trainer = sink_trainer(
        tmp_path,
        eval_rows=corpus(),
        max_steps=4,
        save_steps=2,
        eval_strategy="steps",
        eval_steps=2,
        load_best_model_at_end=True,
        metric_for_best_model="loss",
        greater_is_better=True,  # the worst, so that it is not the last
        learning_rate=1e-3,
    )
    trainer.data_collator = Collator(0)
    trainer.train()
    best = trainer.state.best_model_checkpoint
    assert best.endswith("checkpoint-2")
    expected = weights(memsinks.load(best))
    assert_same(weights(trainer.model), expected)


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "opt"])
def test_evaluation_takes_the_training_collator_and_counts_nothing(tmp_path, family):
    """Trainer has one collator for both, so the counted IDs come along in evaluation too."""
    model, rows = sink_model(family), corpus(9)
    trainer = sink_trainer(tmp_path, model=model, eval_rows=rows, max_steps=1, save_strategy="no", eval_on_start=False)
    loss = trainer.evaluate()["eval_loss"]
    assert trainer.exposures.counts == {}
    batches = [Collator(0)(rows[i : i + 8]) for i in (0, 8)]
    with torch.no_grad():
        expected = [float(model(**b).loss) for b in batches]
    assert loss == pytest.approx((expected[0] * 8 + expected[1]) / 9, rel=1e-5)


def test_ranks_do_not_repeat_rows_to_come_out_even(whole):
    trainer, _ = whole
    assert not trainer.accelerator.even_batches
    assert isinstance(trainer.get_train_dataloader().batch_sampler, RankBatches)


def test_a_baseline_without_sinks_trains_and_resumes(tmp_path):
    runs = []
    for resume in (None, str(tmp_path / "checkpoint-3")):
        model = plain_model("llama")
        trainer = sink_trainer(tmp_path, model=model)
        trainer.data_collator = lambda rows: {
            k: v for k, v in Collator(0, with_exposures=True)(rows).items() if k not in ("sequence_ids", "sink_mask")
        }
        trainer.train(resume_from_checkpoint=resume)
        runs.append((weights(model), trainer.exposures.counts))
    assert_same(runs[0][0], runs[1][0])
    assert runs[0][1] == runs[1][1] == exposed(corpus()[:36])


# The stock Trainer


class Recording(Trainer):
    """Keeps the names of the columns that reach the model."""

    columns: tuple = ()

    def compute_loss(self, model, inputs, *args, **kwargs):
        self.columns = tuple(sorted(inputs))
        return super().compute_loss(model, inputs, *args, **kwargs)


def stock_trainer(directory, optimizer=None, model=None, **options) -> Recording:
    return Recording(
        model or sink_model("llama"),
        arguments(directory, **options),
        train_dataset=corpus(),
        data_collator=Collator(0),
        optimizers=(optimizer, None),
    )


def test_the_stock_trainer_trains_and_keeps_our_columns(tmp_path):
    trainer = stock_trainer(tmp_path, max_steps=2, save_steps=2)
    assert trainer.args.remove_unused_columns
    before = weights(trainer.model)
    trainer.train()
    assert trainer.columns == ("input_ids", "labels", "sequence_ids", "sink_mask")
    assert all(not torch.equal(p, before[name]) for name, p in trainer.model.named_parameters())
    checkpoint = tmp_path / "checkpoint-2"
    assert not any("sink" in key for key in safetensors.torch.load_file(checkpoint / "model.safetensors"))
    assert_same(weights(memsinks.load(checkpoint)), weights(trainer.model))


@pytest.mark.parametrize("max_grad_norm", [0.5, 0.0])
def test_the_stock_trainer_with_our_optimizer_on_dense_gradients(tmp_path, max_grad_norm):
    """Who clips does not matter: the result is SinkTrainer's, to rounding."""
    model = sink_model("llama")
    options = {"weight_decay": 0.0, "sink_lr_multiplier": 5.0, "sink_weight_decay": 0.1}
    optimizer = SinkAdamW(model, 1e-2, max_grad_norm=None, gradients="dense", **options)
    trainer = stock_trainer(tmp_path, optimizer, model, max_steps=3, save_strategy="no", max_grad_norm=max_grad_norm)
    trainer._get_train_sampler = lambda *args: torch.utils.data.SequentialSampler(trainer.train_dataset)
    trainer.train()
    ours = sink_trainer(tmp_path, max_steps=3, save_strategy="no", max_grad_norm=max_grad_norm)
    ours.train()
    own = weights(ours.model)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), own[name], atol=1e-6, rtol=0, msg=name)


@pytest.mark.parametrize("max_grad_norm", [0.5, 0.0])
def test_the_stock_trainer_cannot_take_row_gradients_and_says_so(tmp_path, max_grad_norm):
    """torch's norm has no sparse version, and Trainer asks for it always: an error, never a silently wrong step."""
    model = sink_model("llama")
    optimizer = SinkAdamW(model, 1e-2)
    trainer = stock_trainer(tmp_path, optimizer, model, max_steps=2, save_strategy="no", max_grad_norm=max_grad_norm)
    before = weights(model)
    with pytest.raises((NotImplementedError, RuntimeError)):
        trainer.train()
    assert_same(weights(model), before)


def test_a_model_trained_under_autocast_folds_to_a_plain_one(tmp_path):
    """accelerate leaves a wrapped forward on the model; a plain copy must not run it."""
    model = sink_model("llama")
    rows = [{"input_ids": tokens(1, 12, seed=i)[0], "sequence_ids": torch.full((12,), i)} for i in range(4)]
    args = TrainingArguments(
        str(tmp_path / "run"), max_steps=1, per_device_train_batch_size=2, bf16=True, use_cpu=True, report_to="none",
        save_strategy="no", dataloader_pin_memory=False,
    )  # fmt: skip
    SinkTrainer(model, args, train_dataset=rows, data_collator=Collator(0)).train()
    assert "forward" in vars(model)
    plain = memsinks.fold(model, "off")
    memsinks.save(model, tmp_path / "saved")
    expected = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")(input_ids=tokens()).logits
    assert torch.equal(plain(input_ids=tokens()).logits, expected)
