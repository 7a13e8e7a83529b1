"""A model that sees few tokens, and has no positions beyond these, beside the run."""

from dataclasses import replace

import pytest
from transformers import GPT2Config, GPT2LMHeadModel

from memsinks.auditing.audit import plan_audit
from memsinks.auditing.config import AuditConfig
from memsinks.auditing.config_capability import CapabilityConfig
from memsinks.auditing.config_persistence import PersistenceConfig
from memsinks.auditing.runner import carry_out
from memsinks.auditing.subject import audited
from memsinks.removal.target import Target

CONTEXT = 64
CONFIG = AuditConfig(
    persistence=PersistenceConfig(steps=2, rows=2, documents=4), capability=CapabilityConfig(tasks=(), prompts=4)
)


@pytest.fixture
def done(named_runs, named_corpus, tmp_path):
    """What the sections find of such a model, by task."""

    def run(config=CONFIG):
        size = {"n_positions": CONTEXT, "n_embd": 16, "n_layer": 1, "n_head": 2}
        model = GPT2LMHeadModel(GPT2Config(vocab_size=len(named_corpus.tokenizer), **size))
        model.save_pretrained(tmp_path / "small")
        against = {"standard": tmp_path / "small"}
        target = Target(sources=("press",))
        found = audited(named_runs["knows"], config.text, target=target, corpus=None, against=against)
        sections = ["losses", "facts", "persistence", "capability"]
        audit = plan_audit(found, config, tmp_path / "a", sections=sections)
        tasks = [task for task in audit.tasks if task.condition == "standard"]
        return {d.task: d for d in carry_out(tasks, audit.bench, tmp_path / "a" / "tasks", speed=audit.speed)}

    return run


def test_every_section_keeps_within_what_it_sees(done):
    found = done()
    assert [d.why for d in found.values() if d.findings is None] == []
    assert "persistence.preference.standard" in found
    written = found["capability.continuations.standard"].findings.figures
    assert all(figure.value is not None for figure in written if figure.measure == "repetition")


def test_a_beginning_that_leaves_no_room_is_said(done):
    long = replace(CONFIG, capability=replace(CONFIG.capability, prefix=CONTEXT - 2))
    [figure] = done(long)["capability.continuations.standard"].findings.figures
    assert figure.value is None
    assert f"sees {CONTEXT} tokens" in figure.note
