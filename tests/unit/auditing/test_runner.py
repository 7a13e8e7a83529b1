"""Tasks of an audit: results are kept, a budget is kept to, one that cannot be run does not stop the others."""

import json

import pytest

from memsinks.audit.findings import Figure, Findings
from memsinks.auditing.runner import carry_out, ordered
from memsinks.auditing.speed import Speed
from memsinks.auditing.task import Cost, Task
from memsinks.errors import InputError


def findings(name):
    return Findings(
        figures=(Figure(section="s", measure=name, condition="own", texts="target", value=1.0, unit="rate"),)
    )


class Bench:
    """Notes what was run."""

    def __init__(self):
        self.ran = []


def task(name, *, condition="own", priority=0, tokens=10, fails=None):
    def run(bench):
        bench.ran.append(name)
        if fails is not None:
            raise fails
        return findings(name)

    cost = Cost(forward=tokens)
    return Task(section="s", name=name, condition=condition, priority=priority, cost=cost, run=run)


def run(tasks, folder, **options):
    bench = Bench()
    return carry_out(tasks, bench, folder, speed=Speed(read=1.0, write=1.0), **options), bench.ran


def test_what_is_done_is_not_done_again(tmp_path):
    tasks = [task("a"), task("b")]
    first, _ = run(tasks, tmp_path)
    again, ran = run(tasks, tmp_path)
    assert ran == []
    assert again == first


def test_a_stopped_audit_goes_on(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run([task("a"), task("b", fails=KeyboardInterrupt())], tmp_path)
    done, ran = run([task("a"), task("b")], tmp_path)
    assert ran == ["b"]
    assert [d.findings for d in done] == [findings("a"), findings("b")]


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"task": "s.a.own", "seconds": 1, "findings": {"figures": 3}}'])
def test_a_result_that_cannot_be_read_is_measured_again(tmp_path, content):
    (tmp_path / "s.a.own.json").write_text(content)
    assert run([task("a")], tmp_path)[1] == ["a"]
    assert json.loads((tmp_path / "s.a.own.json").read_text())["task"] == "s.a.own"


def test_a_budget_leaves_out_what_takes_too_long_and_says_so(tmp_path):
    done, ran = run([task("small"), task("large", tokens=10_000), task("other")], tmp_path, budget=100)
    assert ran == ["small", "other"]
    assert done[1].findings is None
    assert "10000 s" in done[1].why
    # With more time it is measured, and what was measured before is not measured again.
    assert run([task("small"), task("large", tokens=10_000), task("other")], tmp_path)[1] == ["large"]


def test_a_task_that_cannot_be_run_is_left_out_with_its_reason(tmp_path):
    done, ran = run([task("a", fails=InputError("too short")), task("b")], tmp_path)
    assert ran == ["a", "b"]
    assert (done[0].findings, done[0].why) == (None, "too short")
    assert run([task("a"), task("b")], tmp_path)[1] == ["a"]


def test_other_errors_are_not_hidden(tmp_path):
    with pytest.raises(ZeroDivisionError):
        run([task("a", fails=ZeroDivisionError())], tmp_path)


def test_the_order_is_by_priority_and_then_by_condition():
    tasks = [
        task("a", condition="own"), task("b", condition="off", priority=1), task("c", condition="off"),
        task("d", condition="own"), task("e", condition="own", priority=1),
    ]  # fmt: skip
    assert [t.name for t in ordered(tasks)] == ["a", "d", "c", "e", "b"]


def test_estimates_learn_from_what_tasks_took():
    speed = Speed(read=1.0, write=2.0)
    assert speed.seconds(Cost(forward=1, backward=1, generated=1)) == 6.0
    speed.learn(Cost(forward=10), 30.0)
    assert speed.seconds(Cost(forward=1)) == 3.0
    speed.learn(Cost(forward=1000), 10.0)
    assert speed.seconds(Cost(forward=1)) == 1.0, "never below what was measured at first"
