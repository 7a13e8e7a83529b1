"""What a results file says of the code and the machine that made it."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from memsinks.training.run import bf16_pays

PACKAGES = ("memsinks", "torch", "transformers", "accelerate", "numpy")


def code_facts() -> dict[str, Any]:
    """Versions, and the commit where the code runs from a repository; ``dirty`` means it had changes on top."""
    here = Path(__file__).parent
    commit = _git(here, "rev-parse", "HEAD")
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "commit": commit,
        "dirty": None if commit is None else bool(_git(here, "status", "--porcelain", "--untracked-files=no", ".")),
    }


def hardware_facts() -> dict[str, Any]:
    """Processor, cores in use, and the device that trains."""
    cuda = torch.cuda.is_available()
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "bf16": bf16_pays(),
    }


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        found = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() if found.returncode == 0 else None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
