"""Tasks of a preparation under datatrove's executors: processes of this machine, a Slurm cluster, or Ray.

The folder of the preparation, the inputs and this package have to be where every node sees them.
"""

import contextlib
import hashlib
import os
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from memsinks.corpus.datatrove_local import LocalProcess
from memsinks.corpus.stages.job import Job, Task
from memsinks.corpus.work import LOGS
from memsinks.errors import InputError, MemsinksError

Kind = Literal["local", "slurm", "ray"]
_POLL_SECONDS = 0.2
_LOST_SECONDS = 30.0
"""How long the files of a task may take to appear, on a slow file system, after all tasks ended."""


@dataclass(frozen=True, kw_only=True)
class Datatrove:
    """An executor of datatrove (https://github.com/huggingface/datatrove).

    Attributes:
        kind: which.
        workers: tasks at a time; None for as many as there are.
        key_variable: environment variable of every node with the secret for keyed IDs, which is never written.
        memory_gb: for each task, on Slurm and Ray.
        partition, time: of Slurm jobs, as ``sbatch`` takes them.
        environment: shell command that a Slurm job runs first, such as the activation of a virtual environment.
    """

    kind: Kind
    workers: int | None = None
    key_variable: str | None = None
    memory_gb: int = 4
    partition: str | None = None
    time: str = "04:00:00"
    environment: str | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise InputError(f"workers is {self.workers}; it must be at least 1")
        if self.kind == "slurm" and self.partition is None:
            raise InputError("Slurm needs the partition in which to run; name it")

    def run(self, job: Job, stage: str, task: Task, numbers: Sequence[int], done: Callable[[], None]) -> None:
        """Run them, and wait for their files.

        Raises:
            InputError: of a task, or tasks ended without having written anything.
        """
        key = job.config.id_key
        if key is not None and self.key_variable is None:
            raise InputError(
                "IDs are keyed, and other nodes need the secret: name the environment variable that has it there"
            )
        logs = job.work.path / LOGS / f"{stage}-{uuid.uuid4().hex[:8]}"
        logs.mkdir(parents=True)
        step = _Step(
            replace(job, config=replace(job.config, id_key=None)),
            task,
            tuple(numbers),
            logs,
            None if key is None else self.key_variable,
            None if key is None else hashlib.sha256(key).hexdigest(),
            Path.cwd(),
        )
        executor = self._executor(step, stage, logs)
        failure: list[BaseException] = []
        thread = threading.Thread(target=_run, args=(executor, failure), daemon=True)
        thread.start()
        try:
            self._wait(job, stage, numbers, done, thread, executor, logs)
        except BaseException:
            # Jobs would go on without us, beside those of the command that is given again.
            if self.kind == "slurm":
                _cancel(executor.job_id)
            raise
        if failure:
            raise InputError(f"{stage}: the {self.kind} executor failed ({failure[0]}); its logs are in {logs}")

    def _executor(self, step: "_Step", stage: str, logs: Path) -> Any:
        options: dict[str, Any] = {
            "pipeline": [step],
            "tasks": len(step.numbers),
            "workers": -1 if self.workers is None else self.workers,
            "logging_dir": str(logs),
        }
        try:
            match self.kind:
                case "local":
                    import datatrove  # noqa: F401 - to see that it is installed

                    return LocalProcess(step, logs, options["workers"])
                case "ray":
                    import ray  # noqa: F401 - to see that it is installed
                    from datatrove.executor.ray import RayPipelineExecutor

                    return RayPipelineExecutor(**options, mem_per_cpu_gb=self.memory_gb)
                case "slurm":
                    from datatrove.executor.slurm import SlurmPipelineExecutor

                    return SlurmPipelineExecutor(
                        **options,
                        job_name=f"memsinks-{stage}",
                        partition=self.partition,
                        time=self.time,
                        mem_per_cpu_gb=self.memory_gb,
                        env_command=self.environment,
                        qos=None,
                    )
        except ImportError as error:
            raise InputError(
                f"the {self.kind} executor needs {error.name}; install it: pip install 'memsinks[cluster]'"
            ) from error

    def _wait(
        self,
        job: Job,
        stage: str,
        numbers: Sequence[int],
        done: Callable[[], None],
        thread: threading.Thread,
        executor: Any,
        logs: Path,
    ) -> None:
        waiting, ended = set(numbers), None
        while waiting:
            for number in [n for n in waiting if job.work.is_done(stage, n)]:
                waiting.discard(number)
                done()
            if error := next(iter(sorted(logs.glob("error-*.txt"))), None):
                raise InputError(error.read_text(encoding="utf-8"))
            if thread.is_alive() or (self.kind == "slurm" and _in_queue(executor.job_id)):
                ended = None
            elif waiting:
                ended = ended or time.monotonic()
                if time.monotonic() - ended > (_LOST_SECONDS if self.kind == "slurm" else 1.0):
                    raise InputError(
                        f"{stage}: {len(waiting)} of {len(numbers)} tasks ended without a result; the logs in {logs} "
                        "say why. The same command goes on with what is finished"
                    )
            time.sleep(_POLL_SECONDS)
        thread.join()


@dataclass(frozen=True)
class _Step:
    """What datatrove calls for each task; it travels to other nodes, so the secret is left out."""

    job: Job
    task: Task
    numbers: tuple[int, ...]
    logs: Path
    key_variable: str | None
    key_digest: str | None
    directory: Path

    def __call__(self, data: Any, rank: int, world_size: int) -> None:
        try:
            with contextlib.chdir(self.directory):
                self.task(self._keyed(), self.numbers[rank])
        except MemsinksError as error:
            (self.logs / f"error-{rank:05d}.txt").write_text(str(error), encoding="utf-8")
            raise

    def _keyed(self) -> Job:
        if self.key_variable is None:
            return self.job
        key = os.environ.get(self.key_variable, "").encode()
        if hashlib.sha256(key).hexdigest() != self.key_digest:
            raise InputError(
                f"the environment variable {self.key_variable} of this node is not the secret of the corpus"
            )
        return replace(self.job, config=replace(self.job.config, id_key=key))


def _run(executor: Any, failure: list[BaseException]) -> None:
    try:
        executor.run()
    except BaseException as error:
        failure.append(error)


def _cancel(job_id: str | None) -> None:
    if job_id is not None:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(["scancel", job_id], capture_output=True, timeout=60)


def _in_queue(job_id: str | None) -> bool:
    """Whether Slurm still has the job; without an answer it may."""
    if job_id is None:
        return False
    try:
        asked = subprocess.run(["squeue", "-h", "-j", job_id], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return True
    return asked.returncode == 0 and bool(asked.stdout.strip())
