"""Losses while training: when they are taken, what they are, and that training does not notice."""

import numpy as np
import pytest
import torch
from families import VOCABULARY, plain_model, sink_model
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from memsinks import SinkTrainer
from memsinks.audit import TokenizedDocument, document_losses
from memsinks.errors import ConfigError
from memsinks.runs.evaluation import Evaluation
from memsinks.runs.gauge import Gauge, RankMeter
from memsinks.runs.metrics import MetricsWriter, read_metrics
from memsinks.stream import Collator

DROPOUT = {"resid_pdrop": 0.3, "embd_pdrop": 0.3, "attn_pdrop": 0.3}


def rows(count=40):
    rng = np.random.default_rng(0)
    return [
        {
            "input_ids": rng.integers(3, VOCABULARY, 8).tolist(),
            "sequence_ids": [i % 5] * 8,
            "sink_mask": [True] * 8,
            "exposed_ids": [i % 5],
        }
        for i in range(count)
    ]


def texts():
    rng = np.random.default_rng(1)
    kinds = {"repeated": 3, "validation": 2, "absent": 0}
    return {
        k: [TokenizedDocument(f"{k}{i}", rng.integers(3, VOCABULARY, 9), i) for i in range(n)] for k, n in kinds.items()
    }


def trainer(directory, model=None, **options):
    settings = {"max_steps": 7, "logging_steps": 2, "save_steps": 4, "learning_rate": 1e-2}
    arguments = TrainingArguments(
        output_dir=str(directory), use_cpu=True, disable_tqdm=True, dataloader_pin_memory=False, report_to="none",
        per_device_train_batch_size=3, **{**settings, **options},
    )  # fmt: skip
    model = sink_model("gpt2", overrides=DROPOUT) if model is None else model
    return SinkTrainer(model, arguments, train_dataset=rows(), data_collator=Collator(0, with_exposures=True))


def watched(directory, modes=("own", "off"), model=None, every=3, **options):
    made = trainer(directory, model, **options)
    gauge = Gauge(RankMeter(made))
    made.extra_logs = gauge.extra_logs
    evaluation = Evaluation(
        made.model, texts(), modes, every=every, max_length=64, log=made.log, gauge=gauge, autocast=False
    )
    for callback in (gauge, MetricsWriter(directory / "metrics.jsonl", gauge), evaluation):
        made.add_callback(callback)
    return made, evaluation


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(value, right[name]) for name, value in left.items())


def timeless(entries):
    hidden = {"time", "elapsed_seconds", "tokens_per_second", "waiting_share"}
    return [{k: v for k, v in entry.items() if k not in hidden} for entry in entries]


def test_training_ends_with_the_same_bits(tmp_path):
    torch.manual_seed(5)
    plain = trainer(tmp_path / "plain")
    plain.train()
    end = torch.get_rng_state()
    torch.manual_seed(5)
    made, _ = watched(tmp_path / "watched", every=1)
    made.train()
    assert same(weights(plain.model), weights(made.model))
    assert torch.equal(end, torch.get_rng_state())
    # Dropout was on: another seed ends elsewhere.
    other = trainer(tmp_path / "other", seed=43)
    other.train()
    assert not same(weights(plain.model), weights(other.model))


def test_losses_at_the_start_at_intervals_and_at_the_end(tmp_path):
    made, evaluation = watched(tmp_path)
    start = evaluation.measure()
    made.train()
    entries = read_metrics(tmp_path / "metrics.jsonl")
    found = {e["step"]: e["evaluation"] for e in entries if "evaluation" in e}
    assert list(found) == [0, 3, 6, 7]
    assert found[0]["repeated"] == {"own": start["eval_repeated_own"], "off": start["eval_repeated_off"]}
    assert set(found[7]) == {"repeated", "validation"}
    for name, losses in found[7].items():
        for mode, loss in losses.items():
            assert loss == document_losses(made.model, texts()[name], mode=mode, max_length=64).mean
    assert found[7]["repeated"]["own"] != found[7]["repeated"]["off"]
    # An entry of the step itself was asked for too, and comes.
    assert [e["step"] for e in entries if "loss" in e] == [2, 4, 6, 7]


def test_the_model_is_left_in_training(tmp_path):
    made, _ = watched(tmp_path, every=1)
    seen = []

    class Look(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            seen.append((all(m.training for m in made.model.modules()), torch.is_grad_enabled()))

    made.add_callback(Look())
    made.train()
    assert seen == [(True, True)] * 7


def test_a_model_without_sinks():
    model = plain_model("gpt2")
    evaluation = Evaluation(model, texts(), [None], every=1, max_length=64, log=print, autocast=False)
    assert evaluation.measure() == {
        f"eval_{name}_plain": document_losses(model, texts()[name], mode=None, max_length=64).mean
        for name in ("repeated", "validation")
    }


@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*:UserWarning")
def test_a_resumed_run_leaves_the_same_file(tmp_path):
    whole, _ = watched(tmp_path / "whole")
    whole.train()
    expected = read_metrics(tmp_path / "whole" / "metrics.jsonl")
    broken, _ = watched(tmp_path / "broken")

    class Kill(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 6:
                raise RuntimeError("killed")

    broken.add_callback(Kill())
    with pytest.raises(RuntimeError, match="killed"):
        broken.train()
    file = tmp_path / "broken" / "metrics.jsonl"
    with file.open("a") as stream:
        stream.write('{"step": 6, "lo')
    assert max(e["step"] for e in read_metrics(file)) == 6
    again, _ = watched(tmp_path / "broken")
    again.train(resume_from_checkpoint=str(tmp_path / "broken" / "checkpoint-4"))
    found = read_metrics(file)
    assert timeless(found) == timeless(expected)
    elapsed = [e["elapsed_seconds"] for e in found if "loss" in e]
    assert elapsed == sorted(elapsed)


def test_other_ranks_measure_and_do_not_log():
    logged = []
    model = sink_model("gpt2")
    evaluation = Evaluation(model, texts(), ["own"], every=1, max_length=64, log=logged.append, autocast=False)
    calls = []
    evaluation.measure = lambda: calls.append(1) or {}
    state = TrainerState(global_step=1, max_steps=3)
    state.is_world_process_zero = False
    evaluation.on_step_end(None, state, TrainerControl())
    assert (len(calls), logged) == (1, [])


@pytest.mark.parametrize(("every", "names"), [(0, texts()), (1, {"": texts()["repeated"]})])
def test_bad_settings_are_refused(every, names):
    with pytest.raises(ConfigError):
        Evaluation(plain_model("gpt2"), names, [None], every=every, max_length=64, log=print)
