"""A run that is asked to stop: real signals to this process, while a real training runs."""

import os
import signal
import threading
import time
from types import SimpleNamespace

import pytest
import torch
from families import sink_model, tokens
from transformers import TrainerCallback, TrainingArguments

from memsinks import SinkTrainer
from memsinks.stream import Collator
from memsinks.training import checkpoints, stopping
from memsinks.training.stopping import StopOnSignal

pytestmark = pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*:UserWarning")


class SignalledError(Exception):
    pass


@pytest.fixture(autouse=True)
def handlers():
    """Handlers of our own that no test may leave changed."""
    received: list[int] = []

    def record(number, frame):
        received.append(number)
        raise SignalledError

    before = {number: signal.signal(number, record) for number in stopping.SIGNALS}
    yield SimpleNamespace(received=received, record=record)
    left = {number: signal.getsignal(number) for number in stopping.SIGNALS}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert set(left.values()) == {record}, "handlers were not given back"


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0)  # the interpreter runs the handler before the next bytecode


class Sender(TrainerCallback):
    """Sends signals while a given step is under way."""

    def __init__(self, step: int, *numbers: int) -> None:
        self.step, self.numbers = step, numbers
        self.handlers_after_first = None

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step + 1 == self.step:
            for number in self.numbers:
                send(number)
                self.handlers_after_first = {n: signal.getsignal(n) for n in stopping.SIGNALS}


def trainer(directory, *callbacks, steps=5):
    rows = [{"input_ids": tokens(1, 6, seed=i)[0], "sequence_ids": torch.full((6,), i)} for i in range(10)]
    args = TrainingArguments(
        str(directory), max_steps=steps, per_device_train_batch_size=2, use_cpu=True, report_to="none",
        save_strategy="no", disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip
    made = SinkTrainer(sink_model("llama"), args, train_dataset=rows, data_collator=Collator(0))
    for callback in callbacks:
        made.add_callback(callback)
    return made


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_after_the_step_under_way_with_a_checkpoint(tmp_path, handlers, number):
    stop, sender = StopOnSignal(), Sender(3, number)
    made = trainer(tmp_path, stop, sender)
    made.train()
    assert stop.stopped
    assert made.state.global_step == 3
    assert handlers.received == [], "the old handler was not for this one"
    folder, problems = checkpoints.newest(tmp_path)
    assert (folder, problems) == (tmp_path / "checkpoint-3", [])
    # The second signal would have been the old handler's at once, not only after training.
    assert set(sender.handlers_after_first.values()) == {handlers.record}


def test_the_run_goes_on_from_there_to_the_same_end(tmp_path):
    whole = trainer(tmp_path / "whole")
    whole.train()
    trainer(tmp_path / "run", StopOnSignal(), Sender(2, signal.SIGTERM)).train()
    resumed = trainer(tmp_path / "run", stop := StopOnSignal())
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
    assert not stop.stopped
    for (name, ours), theirs in zip(resumed.model.named_parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(ours, theirs), name


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_has_its_old_effect(tmp_path, handlers, second):
    made = trainer(tmp_path, StopOnSignal(), Sender(3, signal.SIGTERM, second))
    with pytest.raises(SignalledError):
        made.train()
    assert handlers.received == [second]
    assert made.state.global_step == 2


def test_without_a_signal_nothing_happens(tmp_path, handlers):
    stop = StopOnSignal()
    made = trainer(tmp_path, stop, steps=2)
    made.train()
    assert not stop.stopped
    assert made.state.global_step == 2
    assert checkpoints.checkpoints(tmp_path) == []


def test_releasing_gives_back_what_was_there_and_only_once(handlers):
    """A training that fails never gets to its end."""
    stop = StopOnSignal()
    stop.on_train_begin(None, None, None)
    assert all(signal.getsignal(n) == stop._ask for n in stopping.SIGNALS)
    stop.release()
    assert all(signal.getsignal(n) == handlers.record for n in stopping.SIGNALS)
    mine = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    stop.release()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    signal.signal(signal.SIGTERM, mine)


def test_off_the_main_thread_it_does_nothing(tmp_path, handlers):
    stop, found = StopOnSignal(), []

    class Look(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            found.append({n: signal.getsignal(n) for n in stopping.SIGNALS})

    made = trainer(tmp_path, stop, Look(), steps=2)
    thread = threading.Thread(target=made.train)
    thread.start()
    thread.join()
    assert made.state.global_step == 2
    assert len(found) == 2
    assert all(set(f.values()) == {handlers.record} for f in found)
    assert not stop.stopped
