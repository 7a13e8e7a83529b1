"""datatrove's local executor in a process of its own: ``python -m memsinks.corpus.datatrove_local STEP LOGS WORKERS``.

It forks, which a process whose libraries run threads (Arrow, torch, grpc) does not survive reliably.
"""

import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class LocalProcess:
    """Stands for datatrove's executor.

    Attributes:
        step: with ``numbers``, what is called for each task.
        logs: where datatrove logs, and this process what it says.
        workers: tasks at a time, -1 for all.
    """

    step: Any
    logs: Path
    workers: int

    def run(self) -> None:
        """Run it, and wait.

        Raises:
            RuntimeError: it failed.
        """
        file = self.logs / "step.pickle"
        file.write_bytes(pickle.dumps(self.step))
        command = [sys.executable, "-m", __name__, str(file), str(self.logs), str(self.workers)]
        with (self.logs / "local.log").open("wb") as log:
            code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT).returncode
        if code:
            raise RuntimeError(f"exit code {code}, see local.log")


def main(file: str, logs: str, workers: str) -> None:
    """Run the tasks of a pickled step."""
    from datatrove.executor.local import LocalPipelineExecutor

    step = pickle.loads(Path(file).read_bytes())
    executor = LocalPipelineExecutor([step], tasks=len(step.numbers), workers=int(workers), logging_dir=logs)
    executor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
