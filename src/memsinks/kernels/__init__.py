"""Forward passes of the sinks; all kernels take the same arguments and agree to rounding."""

from memsinks.kernels.dense import dense
from memsinks.kernels.gathered import gathered
from memsinks.kernels.weights import SinkWeights

KERNELS = {"dense": dense, "gathered": gathered}

__all__ = ["KERNELS", "SinkWeights", "dense", "gathered"]
