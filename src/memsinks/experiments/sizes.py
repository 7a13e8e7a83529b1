"""Sizes of the story experiments at each scale; the code is the same at all of them."""

from dataclasses import replace

from memsinks.experiments.catalogue import Scale
from memsinks.experiments.stories import StorySetting

SMOKE = StorySetting(
    once=60, repeated=4, exposures=8, validation=12, longest=700, vocabulary=320, hidden=32, layers=2, heads=2,
    width=64, max_length=768, warmup_steps=5, prefix=20, suffix=10, posthoc_steps=4,
)  # fmt: skip
MINI = StorySetting(once=3000, repeated=16, exposures=100, validation=300, longest=900)
CPU = StorySetting()
GPU = StorySetting(
    tokenizer="gpt2", hidden=1024, layers=24, heads=16, width=2816, max_length=512, batch_size=64, micro_batch_size=32,
    learning_rate=3e-4, warmup_steps=200,
)  # fmt: skip
"""About 344M parameters: GPT-2-medium's depth and width, in Llama's form."""
PAPER = replace(GPU, source="roneneldan/TinyStories", once=20_000)

STORIES: dict[Scale, StorySetting] = {"smoke": SMOKE, "mini": MINI, "cpu": CPU, "gpu": GPU, "paper": PAPER}
CANARIES: dict[Scale, StorySetting] = {
    scale: replace(setting, canary_words=20, suffix=min(20, setting.suffix)) for scale, setting in STORIES.items()
}
