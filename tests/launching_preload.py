"""What a process of :mod:`launching` has imported before it starts."""

import accelerate  # noqa: F401
import torch.distributed.fsdp  # noqa: F401
import transformers.models.gpt2.modeling_gpt2
import transformers.models.llama.modeling_llama  # noqa: F401
from transformers import Trainer  # noqa: F401

import memsinks.cli.main
import memsinks.runs.run  # noqa: F401
