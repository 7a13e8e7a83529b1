"""Sizes of the experiments on text at each scale; the code is the same at all of them."""

from dataclasses import replace

from memsinks.experiments.books import BookSetting
from memsinks.experiments.catalogue import Scale
from memsinks.experiments.mixture_text import MixtureSetting
from memsinks.experiments.stories import StorySetting

SMOKE = StorySetting(
    once=60, repeated=4, exposures=8, validation=12, longest=500, vocabulary=512, hidden=32, layers=2, heads=2,
    width=64, max_length=512, warmup_steps=5, prefix=20, suffix=10, curve_points=2, posthoc_steps=4,
)  # fmt: skip
CPU = StorySetting(compile=True, micro_batch_size=8)
MINI = replace(CPU, once=3000, repeated=16, exposures=100, validation=300, longest=900)
GPU = StorySetting(
    vocabulary=8192, hidden=1024, layers=24, heads=16, width=2816, max_length=512, batch_size=64, micro_batch_size=16,
    learning_rate=5e-4, compile=True, checkpoint_every=0,
)  # fmt: skip
"""317M parameters: GPT-2-medium's depth and width, in Llama's form, and a vocabulary made for the stories."""
PAPER = replace(GPU, source="roneneldan/TinyStories", once=20_000, tokenizer="gpt2")

STORIES: dict[Scale, StorySetting] = {"smoke": SMOKE, "mini": MINI, "cpu": CPU, "gpu": GPU, "paper": PAPER}
CANARIES: dict[Scale, StorySetting] = {
    scale: replace(setting, canary_tokens=20, suffix=min(20, setting.suffix)) for scale, setting in STORIES.items()
}

SEVEN = (
    "frankenstein", "huckleberry_finn", "pride_and_prejudice", "alice_in_wonderland", "moby_dick", "dracula",
    "tale_of_two_cities",
)  # fmt: skip
BOOKS_SMOKE = BookSetting(
    books=(*SEVEN[:2], "alice_in_wonderland"), retrained=SEVEN[:1], exposures=2, book_characters=3000,
    general_characters=6000, validation=4, longest=600, measured=8, pool=64, active=16, vocabulary=320, hidden=32,
    layers=2, heads=2, width=64, max_length=128, warmup_steps=5, prefix=10, suffix=5, curve_points=0,
)  # fmt: skip
BOOKS_MINI = BookSetting(
    books=(*SEVEN[:2], *SEVEN[3:5]), retrained=SEVEN[:2], exposures=10, book_characters=110_000,
    general_characters=2_600_000, suffix=20, curve_points=0, compile=True,
)  # fmt: skip
BOOKS_CPU = replace(
    BOOKS_MINI, books=SEVEN, retrained=SEVEN[:3], book_characters=330_000, general_characters=9_500_000, pool=4096,
    active=512,
)  # fmt: skip
BOOKS_GPU = replace(
    BOOKS_CPU, book_characters=None, general_characters=None, pool=8192, active=1024,
    **{key: getattr(GPU, key) for key in (
        "vocabulary", "hidden", "layers", "heads", "width", "max_length", "batch_size", "micro_batch_size",
        "learning_rate", "compile", "checkpoint_every",
    )},
)  # fmt: skip

BOOKS: dict[Scale, BookSetting] = {"smoke": BOOKS_SMOKE, "mini": BOOKS_MINI, "cpu": BOOKS_CPU, "gpu": BOOKS_GPU}

MIXTURE_PAPER = MixtureSetting(
    tokens=1_000_000_000, stories=5000, validation=1000, held_out=1000, measured=1000,
    story_source="roneneldan/TinyStories", general_source="cerebras/SlimPajama-627B",
    tokenizer="HuggingFaceTB/SmolLM2-360M", architecture="recipes/models/smollm2-360m.json", max_length=512,
    batch_size=256, micro_batch_size=32, learning_rate=2e-3, warmup_steps=1000, own=4,
)  # fmt: skip
"""The paper's stories, tokens and model; upsampling, rows of 512 tokens and the schedule are ours. Four sinks of
its own for each of 5,000 stories, in 32 layers, are 1.8 billion weights."""

MIXTURE: dict[Scale, MixtureSetting] = {
    "smoke": MixtureSetting(
        exposures=6, moderate=3, tokens=18_000, stories=4, validation=8, longest=600, held_out=3, passage=400,
        measured=8, vocabulary=320, hidden=32, layers=2, heads=2, width=64, warmup_steps=5, prefix=20, suffix=10, own=8,
    ),
    "mini": MixtureSetting(stories=64, longest=600, compile=True),
    "cpu": MixtureSetting(
        tokens=3_000_000, longest=700, vocabulary=4096, hidden=256, layers=6, width=688, compile=True,
    ),
    "gpu": MixtureSetting(
        tokens=8_000_000, stories=250, validation=1000, vocabulary=8192, max_length=512, batch_size=32,
        architecture="recipes/models/smollm2-135m.json", learning_rate=1e-3, warmup_steps=200, own=48,
    ),
    "paper": MIXTURE_PAPER,
}  # fmt: skip
"""At ``cpu`` the MLP is 2.7 times the hidden size, as in SmolLM2; at ``gpu`` it is SmolLM2-135M on the shipped text."""

MIXTURE_LARGER: dict[Scale, MixtureSetting] = {
    "paper": replace(
        MIXTURE_PAPER, tokens=2_000_000_000, held_out=2000, tokenizer="HuggingFaceTB/SmolLM2-1.7B",
        architecture="recipes/models/smollm2-1.7b.json", micro_batch_size=8, learning_rate=5e-4, pool=1.0, own=2,
    )
}  # fmt: skip
"""A pool as wide as the MLP: four times that, with its optimiser state, would not fit on one card."""
