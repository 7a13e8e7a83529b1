"""Whether this machine's libraries and settings are what memsinks needs."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from typing import Literal

from packaging.requirements import Requirement

EXTRAS = {
    "report": "pages and figures",
    "experiments": "memsinks reproduce",
    "pretrained": "the pretrained model of an experiment",
    "cluster": "preparation on several machines",
    "postgresql": "a ledger on a PostgreSQL server",
    "gguf": "files for llama.cpp",
    "tracking": "TensorBoard and trackio",
    "examples": "the examples",
}
"""Optional parts that a user may want, and what they are for; those left out are for developers."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: of it, short.
        kind: ok, a note that asks for nothing, or a problem.
        says: what was found.
        remedy: what to do about a problem.
    """

    name: str
    kind: Literal["ok", "note", "problem"]
    says: str
    remedy: str = ""


def check_environment() -> Iterator[Finding]:
    """Look at the libraries, the processor and the threads."""
    needed = [Requirement(text) for text in requires("memsinks") or ()]
    yield from _libraries([r for r in needed if r.marker is None or r.marker.evaluate({"extra": ""})])
    yield from _extras(needed)
    yield from _machine()


def _libraries(needed: list[Requirement]) -> Iterator[Finding]:
    wrong = False
    for requirement in needed:
        found = _version(requirement.name)
        if found is None or not requirement.specifier.contains(found, prereleases=True):
            wrong = True
            yield Finding(
                name=requirement.name,
                kind="problem",
                says=f"{found or 'not installed'}, and memsinks needs {requirement.specifier}",
                remedy=f"pip install '{requirement.name}{requirement.specifier}'",
            )
    if not wrong:
        shown = ", ".join(f"{name} {_version(name)}" for name in ("torch", "transformers"))
        yield Finding(name="libraries", kind="ok", says=f"{shown}; all {len(needed)} that memsinks needs fit")


def _extras(needed: list[Requirement]) -> Iterator[Finding]:
    known = metadata("memsinks").get_all("Provides-Extra") or []
    for extra, purpose in EXTRAS.items():
        if extra not in known:
            continue
        own = [r for r in needed if r.marker is not None and r.marker.evaluate({"extra": extra})]
        # All of these have a marker; the type checker forgets it between the two lines.
        own = [r for r in own if not r.marker.evaluate({"extra": ""}) and r.name != "memsinks"]  # type: ignore[union-attr]
        missing = sorted(r.name for r in own if _version(r.name) is None)
        says = f"{purpose}: " + (f"not installed ({', '.join(missing)})" if missing else "there")
        remedy = f"pip install 'memsinks[{extra}]', if you want it" if missing else ""
        yield Finding(name=f"extra {extra}", kind="note" if missing else "ok", says=says, remedy=remedy)


def _machine() -> Iterator[Finding]:
    import torch

    from memsinks.training.run import bf16_pays

    on = torch.cuda.get_device_name() if torch.cuda.is_available() else "this CPU"
    says = f"{on} multiplies bfloat16 in hardware" if bf16_pays() else f"{on} does not; runs are in float32"
    yield Finding(name="bf16", kind="ok" if bf16_pays() else "note", says=says)
    threads = torch.get_num_threads()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    many = threads > cores
    yield Finding(
        name="threads",
        kind="problem" if many else "ok",
        says=f"torch uses {threads} threads, and this process has {cores} cores",
        remedy=f"set OMP_NUM_THREADS={cores}: more threads than cores wait for each other" if many else "",
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
