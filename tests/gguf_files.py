"""Models and tokenizers for tests of GGUF files."""

import functools

import gguf
from families import sink_model
from tokenizers import Regex, pre_tokenizers

import memsinks
from memsinks.corpus import train_tokenizer

WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""How the tokenizers of Qwen 2 and Llama 3 split; they differ in numbers."""
TEXTS = [
    "The cat sat on the mat in 1984, don't   we'LL know?\n\n  12 + 345 = 357!\r\n\tÉté 漢字 🙂",
    "The hat sat on the mat, and the hat was flat; that is what the cat knew, and what a cat knows is known well.",
    "Whoever knew that the mat was flat sat on the hat. " * 2,
]
AWKWARD = [
    "",
    " ",
    "   a  b   ",
    "1984",
    " 12 345,678.90 x2y3",
    "½ ² Ⅷ ٣٤",
    "don't we'll I'VE o'clock 'tis",
    "one\ntwo\r\n\r\nthree\n \n\tfour\n",
    "🙂👩‍👩‍👧 👍🏽!",
    "漢字 Straße naïve Ж",
    "x\u00a0y\u2003z",
    "a_b-c//d (e) [f] {g}…",
    "ends with blanks  ",
]

SPLITTERS = {
    "gpt-2": [pre_tokenizers.ByteLevel(add_prefix_space=False)],
    "smollm": [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)],
    "qwen2": [
        pre_tokenizers.Split(Regex(WORDS % r"\p{N}"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ],
    "llama-bpe": [
        pre_tokenizers.Split(Regex(WORDS % r"\p{N}{1,3}"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ],
}
"""The steps before BPE, by llama.cpp's names for them."""


def byte_level(splitting="gpt-2", size=330):
    """A trained tokenizer that splits text in one of the ways that llama.cpp knows."""
    tokenizer = train_tokenizer(TEXTS, size)
    steps = SPLITTERS[splitting]
    tokenizer.backend_tokenizer.pre_tokenizer = steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(steps)
    if splitting == "llama-bpe":
        tokenizer.backend_tokenizer.model.ignore_merges = True
    return tokenizer


def model_for(tokenizer, family, rows=None, **overrides):
    """A tiny model with sinks and an embedding as large as the vocabulary, or larger."""
    shape = {"vocab_size": rows or len(tokenizer), "bos_token_id": 0, "eos_token_id": 0, "mlp_bias": False, **overrides}
    if family == "qwen2":
        shape.pop("mlp_bias")
    return sink_model(family, overrides=shape)


@functools.cache
def cached_tokenizer(splitting):
    return byte_level(splitting)


def written(model, path, **options):
    """A reader of the file that a model was written to."""
    memsinks.export_gguf(model, path, **{"tokenizer": cached_tokenizer("gpt-2"), **options})
    return gguf.GGUFReader(path)


def value(reader, key):
    """Of a key in a file; None where it is missing."""
    return reader.fields[key].contents() if key in reader.fields else None
