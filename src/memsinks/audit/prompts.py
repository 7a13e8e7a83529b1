"""Other prompts than a document's beginning: from elsewhere in it, of few tokens, and lightly altered."""

import re
import string
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from memsinks.audit.documents import TokenizedDocument
from memsinks.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Alteration = Literal["case", "punctuation", "synonyms"]
ALTERATIONS: tuple[Alteration, ...] = get_args(Alteration)

_PAIRS = (
    ("big", "large"), ("small", "little"), ("happy", "glad"), ("sad", "unhappy"), ("quick", "fast"),
    ("quickly", "fast"), ("begin", "start"), ("began", "started"), ("said", "told"), ("looked", "gazed"),
    ("house", "home"), ("child", "kid"), ("children", "kids"), ("friend", "companion"), ("friends", "companions"),
    ("beautiful", "lovely"), ("pretty", "lovely"), ("scared", "afraid"), ("angry", "cross"), ("smart", "clever"),
    ("nice", "kind"), ("good", "fine"), ("bad", "poor"), ("walked", "strolled"), ("ran", "raced"),
    ("shouted", "yelled"), ("wanted", "wished"), ("saw", "noticed"), ("found", "discovered"), ("help", "aid"),
    ("helped", "aided"), ("many", "several"), ("very", "really"), ("mother", "mum"), ("mom", "mum"), ("father", "dad"),
    ("boy", "lad"), ("girl", "lass"), ("little", "tiny"), ("boat", "ship"), ("forest", "woods"), ("road", "street"),
    ("stone", "rock"), ("gift", "present"), ("money", "cash"), ("also", "too"), ("however", "but"),
    ("show", "display"), ("shows", "displays"), ("use", "employ"), ("used", "employed"), ("important", "significant"),
    ("often", "frequently"), ("buy", "purchase"), ("get", "obtain"), ("make", "create"), ("made", "created"),
    ("new", "recent"), ("old", "aged"), ("end", "finish"), ("people", "persons"),
)  # fmt: skip
SYNONYMS = dict(_PAIRS)
"""English words and what stands for them in an altered prompt."""


def altered(text: str, kind: Alteration) -> str:
    """A text, lightly altered as somebody who remembers it badly might type it.

    ============ ==============================================================
    case         all letters small, or all capital where they are small already
    punctuation  ASCII punctuation is left out
    synonyms     each word of :data:`SYNONYMS` is replaced
    ============ ==============================================================

    Raises:
        InputError: an unknown kind.
    """
    if kind == "case":
        return text.lower() if text.lower() != text else text.upper()
    if kind == "punctuation":
        return text.translate(str.maketrans("", "", string.punctuation))
    if kind == "synonyms":
        return re.sub(r"[A-Za-z]+", _synonym, text)
    raise InputError(f"unknown alteration {kind!r}; choose from {', '.join(ALTERATIONS)}")


def altered_prompt(
    tokenizer: "PreTrainedTokenizerBase",
    document: TokenizedDocument,
    prefix: int,
    kind: Alteration,
    *,
    most: int | None = None,
) -> np.ndarray:
    """The document's first ``prefix`` tokens as text, altered, and tokenised again; begin markers stay.

    Where that is more than ``most`` tokens, the last of them are taken.

    Raises:
        InputError: nothing is left of the text.
    """
    head = begin_markers(tokenizer, document)
    text = str(tokenizer.decode(document.tokens[head:prefix].tolist()))
    tokens = tokenizer(altered(text, kind), add_special_tokens=False)["input_ids"]
    excess = 0 if most is None else max(0, head + len(tokens) - most)
    prompt = np.concatenate([document.tokens[:head], np.asarray(tokens[excess:], dtype=np.int64)])
    if not len(prompt):
        raise InputError(f"document {document.name!r}: without its {kind} nothing is left of its first {prefix} tokens")
    return prompt


def begin_markers(tokenizer: "PreTrainedTokenizerBase", document: TokenizedDocument) -> int:
    """Tokens at the document's start that are markers of the tokenizer and no text."""
    is_text = ~np.isin(document.tokens, tokenizer.all_special_ids)
    return int(is_text.argmax()) if is_text.any() else len(is_text)


def window(document: TokenizedDocument, start: int, tokens: int, *, head: int = 0) -> TokenizedDocument:
    """Tokens of a document from ``start`` on, after its first ``head`` ones; the name tells the place.

    Raises:
        InputError: the document does not reach so far.
    """
    if start < head or start + tokens > len(document.tokens):
        raise InputError(
            f"document {document.name!r} has {len(document.tokens)} tokens, and no {tokens} of them from {start} on"
        )
    cut = np.concatenate([document.tokens[:head], document.tokens[start : start + tokens]])
    return TokenizedDocument(f"{document.name}:{start}", cut, document.sequence_id)


def starts(length: int, tokens: int, count: int, *, head: int = 0) -> list[int]:
    """Up to ``count`` places, spread evenly, at which ``tokens`` tokens of ``length`` begin; not the very first."""
    last = length - tokens
    if last <= head:
        return []
    return sorted(set(np.linspace(head + 1, last, num=min(count, last - head)).astype(int).tolist()))


def _synonym(match: re.Match[str]) -> str:
    word = match[0]
    found = SYNONYMS.get(word.lower(), word.lower())
    if found == word.lower():
        return word
    return found.capitalize() if word[0].isupper() else found
