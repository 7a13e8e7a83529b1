"""What a GGUF file says about a tokenizer, read from a Hugging Face tokenizer.

llama.cpp builds a byte-level BPE tokenizer from tokens and merges, and splits text before it by patterns of its own, of
which the file holds only the name. So a tokenizer can be written only if its splitting is one of those.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from memsinks.errors import ConfigError

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_DIGIT = r"\p{N}"
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_NAMES = {
    (_GPT2,): "gpt-2",
    (_DIGIT, _GPT2): "smollm",
    (_WORDS % r"\p{N}",): "qwen2",
    (_WORDS % r"\p{N}{1,3}",): "llama-bpe",
}
"""llama.cpp's names for the patterns that split a text, one after the other."""
_TAKES_WHOLE_WORDS = {"llama-bpe"}
"""Names under which a word that is a token is taken whole, whatever the merges."""

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
"""llama.cpp's types of tokens."""


@dataclass(frozen=True)
class Vocabulary:
    """A byte-level BPE tokenizer as llama.cpp wants it.

    Attributes:
        splitting: llama.cpp's name for how text is split before BPE (``tokenizer.ggml.pre``).
        tokens: one for each row of the embedding: bytes in GPT-2's alphabet, added tokens as they are.
        types: of the tokens.
        merges: two tokens with a blank between, the first to be merged first.
        begin, end, padding, unknown: IDs of special tokens; ``begin`` is ``end`` where the tokenizer names none.
        add_begin, add_end: whether the tokenizer itself puts them around a text.
        chat_template: in Jinja, if there is one.
    """

    splitting: str
    tokens: list[str]
    types: list[int]
    merges: list[str]
    begin: int
    end: int
    padding: int | None
    unknown: int | None
    add_begin: bool
    add_end: bool
    chat_template: str | None


def read_vocabulary(tokenizer: Any, rows: int) -> Vocabulary:
    """Read a tokenizer, with unused tokens up to the size of the embedding.

    Args:
        tokenizer: of transformers, backed by the tokenizers library.
        rows: of the model's embedding.

    Raises:
        ConfigError: the tokenizer is of another kind, splits text in a way that llama.cpp has no name for, has more
            tokens than the embedding has rows, or has no end token.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise _refusal(f"{type(tokenizer).__name__} is written in Python; load it with tokenizer.json")
    text = tokenizer.backend_tokenizer.to_str()
    spec = json.loads(text)
    splitting = _splitting(spec)
    if tokenizer.eos_token_id is None:
        # llama.cpp would stop at token 11, its default.
        raise _refusal("it has no end token; set its eos_token to the token that ends a text")
    begin = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    before, after = _around(Tokenizer.from_str(text))
    if before not in ([], [begin]) or after not in ([], [tokenizer.eos_token_id]):
        raise _refusal(f"it puts tokens {before} before a text and {after} after it, not just its begin and end tokens")
    tokens, types = _tokens(spec, rows)
    template = tokenizer.chat_template
    return Vocabulary(
        splitting=splitting,
        tokens=tokens,
        types=types,
        merges=[" ".join(pair) for pair in spec["model"]["merges"]],
        begin=begin,
        end=tokenizer.eos_token_id,
        padding=tokenizer.pad_token_id,
        unknown=tokenizer.unk_token_id,
        add_begin=bool(before),
        add_end=bool(after),
        chat_template=template if isinstance(template, str) else None,
    )


def _splitting(spec: dict[str, Any]) -> str:
    model = spec["model"]
    if model["type"] != "BPE":
        raise _refusal(f"its model is {model['type']}, not byte-level BPE")
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(key):
            raise _refusal(f"its BPE has {key} {model[key]!r}")
    if not model["merges"]:
        raise _refusal("it has no merges, of which llama.cpp wants some; train a larger vocabulary")
    normalizer = spec["normalizer"]
    # llama.cpp leaves text as it is, which is the same for text in NFC, as nearly all is.
    if normalizer is not None and normalizer["type"] != "NFC":
        raise _refusal(f"it changes text before encoding ({normalizer['type']}), which llama.cpp does not")
    patterns = tuple(_patterns(spec["pre_tokenizer"]))
    name = _NAMES.get(patterns)
    if name is None:
        raise _refusal(f"llama.cpp has no name known here for how it splits text: {_shown(spec['pre_tokenizer'])}")
    if (name in _TAKES_WHOLE_WORDS) != bool(model.get("ignore_merges")):
        raise _refusal(f"its ignore_merges is {bool(model.get('ignore_merges'))}, unlike that of llama.cpp's {name!r}")
    return name


def _patterns(pre_tokenizer: dict[str, Any] | None) -> Iterator[str]:
    """Patterns at whose matches the steps of a pre-tokenizer split; no known one for a step that does anything else."""
    steps = _steps(pre_tokenizer)
    if not steps or steps[-1]["type"] != "ByteLevel":
        return
    for number, step in enumerate(steps):
        kind, is_last = step["type"], number == len(steps) - 1
        if kind == "ByteLevel" and is_last and not step["add_prefix_space"]:
            if step["use_regex"]:
                yield _GPT2
        elif kind == "Digits" and step["individual_digits"]:
            yield _DIGIT
        elif kind == "Split" and step["behavior"] == "Isolated" and not step["invert"] and "Regex" in step["pattern"]:
            yield step["pattern"]["Regex"]
        else:
            yield f"({kind})"


def _steps(step: dict[str, Any] | None) -> list[dict[str, Any]]:
    if step is None:
        return []
    if step["type"] == "Sequence":
        return [inner for outer in step["pretokenizers"] for inner in _steps(outer)]
    return [step]


def _shown(step: dict[str, Any] | None) -> str:
    return "not at all" if step is None else json.dumps(step, ensure_ascii=False)


def _around(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """What a tokenizer puts before and after a text."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    whole = tokenizer.encode("a").ids
    start = next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
    return whole[:start], whole[start + len(bare) :]


def _tokens(spec: dict[str, Any], rows: int) -> tuple[list[str], list[int]]:
    added = {token["id"]: token for token in spec["added_tokens"]}
    tokens = {number: token for token, number in spec["model"]["vocab"].items()}
    tokens |= {number: token["content"] for number, token in added.items()}
    size = max(tokens) + 1
    if size > rows:
        raise _refusal(f"it has {size} tokens, and the model's embedding {rows} rows; take the model's own tokenizer")
    for token in added.values():
        taken = [key for key in ("single_word", "lstrip", "rstrip") if token[key]]
        if taken:
            raise _refusal(f"its token {token['content']!r} has {taken[0]}, which llama.cpp does not know")
    types = {number: CONTROL if token["special"] else USER_DEFINED for number, token in added.items()}
    names = [tokens.get(number, f"[PAD{number}]") for number in range(rows)]
    if len(set(names)) != rows:
        double = next(name for name in names if names.count(name) > 1)
        raise _refusal(f"its token {double!r} is there twice")
    return names, [types.get(number, NORMAL if number in tokens else UNUSED) for number in range(rows)]


def _refusal(reason: str) -> ConfigError:
    return ConfigError(f"this tokenizer cannot be written for llama.cpp: {reason}")
