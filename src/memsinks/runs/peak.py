"""The peak rate of a device, in FLOP/s: what model FLOPs utilisation (MFU) is a share of."""

import time
from functools import cache

import torch

_TERA = 1e12
_PUBLISHED: tuple[tuple[str, float, float], ...] = (
    ("H200", 989, 494),
    ("H100 PCIe", 756, 378),
    ("H100 NVL", 835, 417),
    ("H100", 989, 494),
    ("A100", 312, 156),
    ("L40S", 362, 183),
    ("L4", 121, 60),
    ("RTX 4090", 165.2, 82.6),
    ("A10G", 70, 35),
    ("A10", 125, 62.5),
    ("V100", 0, 15.7),
)
"""Part of the device's name, and dense TFLOP/s: bf16 with fp32 accumulation, and TF32 (V100, which has neither: 0, and
fp32). From NVIDIA's data sheets, halved where they print sparse figures. The first match counts."""


def peak_flops(device: torch.device | str, dtype: torch.dtype) -> float | None:
    """Peak FLOP/s of one device in matrix products of ``dtype``.

    Args:
        device: a GPU, whose published dense peak is looked up by its name, or the CPU, whose best rate in a few square
            products is measured (about a second, once a process).
        dtype: ``torch.bfloat16``, or ``torch.float32``. For fp32 on a GPU this is the TF32 peak, a limit that products
            reach only where TF32 is allowed.

    Returns:
        None if the device is unknown, absent, or has no such arithmetic.
    """
    device = torch.device(device)
    if device.type == "cpu":
        return _measured(dtype, torch.get_num_threads())
    if device.type == "cuda" and torch.cuda.is_available():
        return published_flops(torch.cuda.get_device_name(device), dtype)
    return None


def published_flops(name: str, dtype: torch.dtype) -> float | None:
    """Published dense peak of a GPU by the name that torch gives it, or None."""
    words = f"{name.replace('-', ' ')} "
    for part, bf16, fp32 in _PUBLISHED:
        # Whole words: "L4" is not in "L40S", nor "A10" in "A100".
        if f" {part} " in f" {words}":
            rate = {torch.bfloat16: bf16, torch.float32: fp32}.get(dtype)
            return rate * _TERA if rate else None
    return None


@cache
def _measured(dtype: torch.dtype, threads: int) -> float:
    """Best rate over square products; ``threads`` is part of the cache's key."""
    best, stop = 0.0, time.perf_counter() + 1.0
    with torch.no_grad():
        for size in (512, 1024, 2048):
            a = torch.ones(size, size, dtype=dtype)
            for _ in range(4):
                started = time.perf_counter()
                a @ a
                elapsed = time.perf_counter() - started
                best = max(best, 2 * size**3 / max(elapsed, 1e-9))
                if time.perf_counter() + elapsed > stop:
                    return best
    return best
