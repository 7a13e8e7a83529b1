"""The queue: what is generated together, what is turned away, and how it ends."""

import threading

import pytest

from memsinks.errors import ConfigError
from memsinks.serving.engine import Engine
from tests.unit.serving.conftest import wait_until


class Completion:
    """As much of a completion as the engine sees."""

    def __init__(self):
        self.cancelled, self.finished = False, None

    def finish(self, reason):
        self.finished = self.finished or reason


@pytest.fixture
def started():
    """Starts engines, and stops them."""
    engines = []

    def start(decode, **options):
        engines.append(Engine(decode, **options))
        engines[-1].start()
        return engines[-1]

    yield start
    for engine in engines:
        engine.stop()


def completions(count):
    return [Completion() for _ in range(count)]


def test_what_arrives_together_runs_together_in_order(started):
    batches = []
    engine = started(batches.append, batch_size=3, queue_size=8, wait_seconds=0.3)
    sent = completions(5)
    for one in sent[:4]:
        assert engine.submit([one])
    assert engine.submit(sent[4:])
    wait_until(lambda: len(batches) == 2)
    assert batches == [sent[:3], sent[3:]]


def test_a_full_queue_takes_all_or_none(started):
    gate, begun = threading.Event(), threading.Event()

    def decode(batch):
        begun.set()
        gate.wait()

    engine = started(decode, batch_size=1, queue_size=3)
    engine.submit(completions(1))
    begun.wait()
    waiting = completions(2)
    assert engine.submit(waiting)
    assert not engine.submit(completions(2))
    waiting[0].cancelled = True
    assert engine.submit(completions(2)), "what nobody waits for takes no room"
    gate.set()


def test_nobody_waiting_is_no_end(started):
    gate, begun, batches = threading.Event(), threading.Event(), []

    def decode(batch):
        batches.append(batch)
        begun.set()
        gate.wait()

    engine = started(decode, batch_size=2, queue_size=4, wait_seconds=0)
    first, gone, last = completions(2), completions(2), completions(1)
    engine.submit(first)
    begun.wait()
    engine.submit(gone)
    for one in gone:
        one.cancelled = True
    gate.set()
    engine.submit(last)
    wait_until(lambda: len(batches) == 2)
    assert batches == [first, last]
    assert engine.alive


def test_a_failed_batch_is_told_and_the_next_one_runs(started, caplog):
    done = threading.Event()

    def decode(batch):
        if batch == first:
            raise RuntimeError("out of memory")
        done.set()

    first, second = completions(2), completions(1)
    engine = started(decode)
    engine.submit(first)
    wait_until(lambda: first[1].finished)
    assert {one.finished for one in first} == {"failed"}
    assert "out of memory" in caplog.text
    engine.submit(second)
    assert done.wait(20)
    assert engine.alive


def test_stopping_ends_what_runs_and_what_waits(started):
    begun = threading.Event()

    def decode(batch):
        begun.set()
        wait_until(lambda: batch[0].cancelled)

    engine = started(decode, batch_size=1)
    sent = completions(3)
    engine.submit(sent)
    begun.wait()
    engine.stop()
    assert not engine.alive
    assert [one.finished for one in sent] == ["failed"] * 3
    assert not engine.submit(completions(1))


def test_what_is_done_between_batches_waits_for_the_one_that_runs(started, caplog):
    gate, begun, order = threading.Event(), threading.Event(), []

    def decode(batch):
        begun.set()
        gate.wait()
        order.append(batch)

    def fails():
        raise RuntimeError("no memory")

    engine = started(decode, batch_size=1)
    first, second = completions(1), completions(1)
    engine.submit(first)
    begun.wait()
    engine.between(fails)
    engine.between(lambda: order.append("chore"))
    engine.submit(second)
    gate.set()
    wait_until(lambda: len(order) == 3)
    assert order == [first, "chore", second]
    assert "no memory" in caplog.text
    engine.between(lambda: order.append("idle"))
    wait_until(lambda: order[-1] == "idle")
    assert engine.alive


@pytest.mark.parametrize("sizes", [{"batch_size": 0}, {"batch_size": 9, "queue_size": 8}, {"wait_seconds": -1.0}])
def test_impossible_sizes(sizes):
    with pytest.raises(ConfigError, match="a batch has at least one"):
        Engine(print, **sizes)
