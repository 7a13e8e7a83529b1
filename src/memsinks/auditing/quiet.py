"""Run libraries that like to talk."""

import contextlib
import io
import logging
import os
import random
import warnings
from collections.abc import Iterator

import numpy as np
import torch


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No output, warnings, telemetry or worker processes of libraries in the block; random states are as before it.

    What they print is dropped, errors are raised as ever.
    """
    import datasets
    from huggingface_hub import constants

    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    telemetry, disabled = constants.HF_HUB_DISABLE_TELEMETRY, logging.root.manager.disable
    bars, single = datasets.is_progress_bar_enabled(), os.environ.get("DISABLE_MULTIPROC")
    states = random.getstate(), np.random.get_state()
    constants.HF_HUB_DISABLE_TELEMETRY, os.environ["DISABLE_MULTIPROC"] = True, "1"
    datasets.disable_progress_bars()
    logging.disable(logging.WARNING)
    try:
        with (
            torch.random.fork_rng(devices=devices),
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            _silent_children(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        random.setstate(states[0])
        np.random.set_state(states[1])
        constants.HF_HUB_DISABLE_TELEMETRY = telemetry
        if single is None:
            del os.environ["DISABLE_MULTIPROC"]
        else:
            os.environ["DISABLE_MULTIPROC"] = single
        if bars:
            datasets.enable_progress_bars()


@contextlib.contextmanager
def _silent_children() -> Iterator[None]:
    """Programs that are started inside the block, such as the git that lm_eval asks for a commit, say nothing."""
    before = os.dup(2)
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - a device, by its descriptor
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
