"""Text from tokens as they come, up to the first stop string."""

from collections.abc import Sequence
from typing import Any

_CONTEXT = 5
"""Tokens of the prompt before the first new one: some tokenizers drop a blank at the beginning of a text."""
_UNFINISHED = "\N{REPLACEMENT CHARACTER}"


class Detokenizer:
    """Gives the text that each token adds; nothing while a character is unfinished.

    Args:
        tokenizer: of the model.
        prompt: tokens before the first one.
    """

    def __init__(self, tokenizer: Any, prompt: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._tokens = list(prompt[-_CONTEXT:])
        self._begin, self._done = 0, len(self._tokens)

    def add(self, token: int) -> str:
        """The text that is complete with this token."""
        self._tokens.append(token)
        new = self._new()
        if not new or new.endswith(_UNFINISHED):
            return ""
        self._begin, self._done = self._done, len(self._tokens)
        return new

    def flush(self) -> str:
        """What is left of an unfinished character."""
        new = self._new()
        self._begin = self._done = len(self._tokens)
        return new

    def _new(self) -> str:
        before, after = (self._decode(self._tokens[self._begin : end]) for end in (self._done, None))
        return after[len(before) :]

    def _decode(self, tokens: list[int]) -> str:
        return self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)


class StopStrings:
    """Holds text back as long as it may be the beginning of a stop string.

    The stop string that is complete first ends the text, the longest of those that end together; where the text is
    cut into pieces makes no difference.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = tuple(strings)
        self._held = ""

    def add(self, text: str) -> tuple[str, bool]:
        """The text that is sure to be before any stop string, and whether one was found."""
        self._held += text
        found = [(at + len(s), at) for s in self._strings if (at := self._held.find(s)) >= 0]
        if found:
            _, at = min(found)
            released, self._held = self._held[:at], ""
            return released, True
        keep = max((self._overlap(string) for string in self._strings), default=0)
        cut = len(self._held) - keep
        released, self._held = self._held[:cut], self._held[cut:]
        return released, False

    def flush(self) -> str:
        """What was held back, at the end."""
        released, self._held = self._held, ""
        return released

    def _overlap(self, string: str) -> int:
        """Characters at the end that begin the string."""
        most = min(len(string) - 1, len(self._held))
        return next((n for n in range(most, 0, -1) if self._held.endswith(string[:n])), 0)
