"""How to measure what a model can still do."""

from dataclasses import dataclass
from pathlib import Path

from memsinks.config import Section
from memsinks.errors import ConfigError
from memsinks.training.config import check_least

HELD_OUT = "held-out"
"""Name of the task that is made of the corpus' held-out text."""


@dataclass(frozen=True, kw_only=True)
class CapabilityConfig(Section):
    """Held-out text, what the model writes, and tasks.

    Attributes:
        documents: most held-out documents for the perplexity.
        prompts: most held-out documents that the model continues.
        prefix: tokens of each that it is given.
        tokens: most tokens that it writes.
        temperature: of the sampled continuations, from the whole distribution.
        tasks: of lm-evaluation-harness: names, files (.yaml) of tasks, or held-out, which is made of held-out text and
            needs no network.
        limit: most documents of a task.
    """

    documents: int = 100
    prompts: int = 32
    prefix: int = 32
    tokens: int = 64
    temperature: float = 1.0
    tasks: tuple[str, ...] = (HELD_OUT,)
    limit: int = 100

    def __post_init__(self) -> None:
        check_least("capability", self, "prefix", "limit")
        check_least("capability", self, "documents", "prompts", least=2)
        check_least("capability", self, "tokens", least=8)
        if not self.temperature > 0:
            raise ConfigError(f"capability.temperature must be above 0, not {self.temperature}")
        for task in self.tasks:
            if not task or (task.endswith((".yaml", ".yml")) and not Path(task).is_file()):
                raise ConfigError(f"capability.tasks: {task!r} is no file; give the name of a task, or a file of one")
