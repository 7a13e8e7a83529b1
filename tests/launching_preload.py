"""What a process of :mod:`launching` has imported before it starts."""

import accelerate
import torch.distributed.fsdp
import transformers.models.gpt2.modeling_gpt2
import transformers.models.llama.modeling_llama
from transformers import Trainer

import memsinks.cli.commands
import memsinks.runs.run
