"""Decoder layers compiled one by one.

They are alike, so one compilation serves them all; and row lengths are symbols in it, so that a batch of another width
needs no other. Sinks run as they are, see :meth:`memsinks.sinks.layer.Sinks.add_to`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler

from memsinks.errors import ConfigError, UnsupportedModelError
from memsinks.sinks.layer import is_bound

BACKEND = "inductor"
GRAPHS = 64
"""Of one function: training, measuring, sinks on and off, weights held back, each on few rows and on many."""


def compiler_found() -> bool:
    """Whether there is the C++ compiler with which ``torch.compile`` builds code for a processor."""
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return False
    return True


@contextmanager
def compiled_layers(model: Any, backend: str | Callable[..., Any] | None = None) -> Iterator[None]:
    """Inside the block, the decoder layers of a transformers model run compiled.

    Args:
        model: with sinks, or without.
        backend: as ``torch.compile`` takes it; default :data:`BACKEND`.

    Raises:
        ConfigError: the model is on the processor, and there is no compiler for it.
        UnsupportedModelError: transformers does not say which modules are its decoder layers.
    """
    backend = BACKEND if backend is None else backend
    if backend == BACKEND and next(model.parameters()).device.type == "cpu" and not compiler_found():
        raise ConfigError(
            "precision.compile needs a C++ compiler and found none; install one (g++ or clang++), name it in the "
            "environment variable CXX, or train without precision.compile"
        )
    # What was compiled for models that came before counts towards a limit, beyond which layers would run as they are.
    torch._dynamo.reset()
    layers = [m for m in model.modules() if type(m).__name__ in (model._no_split_modules or ())]
    if not layers:
        raise UnsupportedModelError(
            f"{type(model).__name__} names no decoder layers (_no_split_modules); train it without precision.compile"
        )
    for layer in layers:
        if is_bound(layer):
            # What binds the sinks stays outside: a routing is another for each batch.
            layer.base_forward = torch.compile(type(layer).base_forward, dynamic=True, backend=backend)
        else:
            layer.forward = _without_routing(torch.compile(layer.forward, dynamic=True, backend=backend))
    try:
        with torch._dynamo.config.patch(recompile_limit=GRAPHS):
            yield
    finally:
        for layer in layers:
            vars(layer).pop("base_forward" if is_bound(layer) else "forward")


def _without_routing(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A layer without sinks makes no use of the routing that its model hands to all."""

    def run(*args: Any, sink_routing: Any = None, **kwargs: Any) -> Any:
        return forward(*args, **kwargs)

    return run
