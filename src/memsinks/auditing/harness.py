"""Tasks of lm-evaluation-harness, run on a model in memory."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from memsinks.audit.session import measuring
from memsinks.auditing.config_capability import HELD_OUT
from memsinks.auditing.quiet import quiet
from memsinks.errors import ConfigError, InputError
from memsinks.sinks.modes import ModeLike

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

RESAMPLES = 1000
"""Of the standard errors that have no formula."""
ENDINGS, LONGEST = 4, 20
"""Candidates of an item of the held-out task, and most words of each."""
_TASK = {
    "task": HELD_OUT,
    "output_type": "multiple_choice",
    "test_split": "train",
    "doc_to_text": "{{beginning}}",
    "doc_to_choice": "{{endings}}",
    "doc_to_target": "{{right}}",
    "target_delimiter": "",
    "metric_list": [{"metric": "acc"}],
}


@dataclass(frozen=True, kw_only=True)
class Score:
    """A metric of a task.

    Attributes:
        task: its name.
        metric: its name, with its filter if it has one.
        value: as the harness gives it.
        error: standard error; None where the harness has none.
        number: documents behind it.
    """

    task: str
    metric: str
    value: float
    error: float | None
    number: int


def write_held_out_task(texts: Sequence[str], folder: Path, *, seed: int) -> Path:
    """A task in files: which of four endings belongs to the first half of a held-out text?

    Args:
        texts: held-out documents, at least four.
        folder: for ``held-out.yaml`` and ``held-out.jsonl``; created.
        seed: of the wrong endings and their order.

    Returns:
        The task's file.

    Raises:
        InputError: there are too few texts with two halves.
    """
    halves = [(" ".join(words[:half]), " " + " ".join(words[half:])) for words, half in map(_words, texts) if half]
    if len(halves) < ENDINGS:
        raise InputError(f"{len(halves)} held-out texts are too few for a task with {ENDINGS} endings")
    random, rows = np.random.default_rng(seed), []
    for number, (beginning, ending) in enumerate(halves):
        others = random.permutation([i for i in range(len(halves)) if i != number])[: ENDINGS - 1]
        endings = [halves[i][1] for i in others.tolist()]
        right = int(random.integers(ENDINGS))
        # Endings of one length: a sum of log-probabilities prefers a short one.
        shortest = min(LONGEST, *(len(e.split()) for e in [ending, *endings]))
        endings = [" " + " ".join(e.split()[:shortest]) for e in [*endings[:right], ending, *endings[right:]]]
        rows.append({"beginning": beginning, "endings": endings, "right": right})
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / f"{HELD_OUT}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    source = {"dataset_path": "json", "dataset_kwargs": {"data_files": str(data), "cache_dir": str(folder / "cache")}}
    file = folder / f"{HELD_OUT}.yaml"
    file.write_text(json.dumps({**_TASK, **source}), "utf-8")  # JSON is YAML
    return file


def _words(text: str) -> tuple[list[str], int]:
    words = text.split()
    return words, len(words) // 2


def harness_scores(
    model: Any,
    tokenizer: "PreTrainedTokenizerBase",
    task: str,
    *,
    mode: ModeLike | None,
    limit: int,
    seed: int,
    batch_size: int = 8,
) -> list[Score]:
    """Run one task, or one group of tasks.

    Args:
        model: with sinks attached unless ``mode`` is None.
        tokenizer: of the model.
        task: a name that the harness knows, which may need a network, or the file of a task.
        mode: which sinks to switch on; requests have no sequence IDs, so ``own`` is like ``off``.
        limit: most documents of a task.
        seed: of whatever the task does at random.
        batch_size: requests at once.

    Raises:
        ConfigError: lm_eval is not installed.
        InputError: there is no such task, or it cannot be loaded.
    """
    if find_spec("lm_eval") is None:
        raise ConfigError("tasks need lm_eval; install it: pip install 'memsinks[audit]'")
    with quiet():
        import lm_eval
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager

        try:
            file = Path(task).suffix in (".yaml", ".yml")
            loaded = TaskManager(include_defaults=not file).load([task])
        except Exception as error:  # the harness, datasets and the network raise many kinds
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"capability.tasks: {task} cannot be loaded ({reason}); give a name that `lm_eval ls tasks` lists, or "
                "a file, and a network where its data are not at hand"
            ) from error
        with measuring(model, mode):
            lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
            results = lm_eval.simple_evaluate(
                lm,
                tasks=list(loaded["tasks"].values()),
                limit=limit,
                bootstrap_iters=RESAMPLES,
                log_samples=False,
                random_seed=seed,
                numpy_random_seed=seed,
                torch_random_seed=seed,
                fewshot_random_seed=seed,
            )
    return [score for name, values in results["results"].items() for score in _scores(name, values, results)]


def _scores(task: str, values: dict[str, Any], results: dict[str, Any]) -> Iterator[Score]:
    for key, value in values.items():
        metric, comma, name = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
            continue
        error = values.get(f"{metric}_stderr,{name}")
        yield Score(
            task=task,
            metric=metric if name == "none" else f"{metric}, {name}",
            value=float(value),
            error=float(error) if isinstance(error, int | float) else None,
            number=int(results["n-samples"][task]["effective"]),
        )
