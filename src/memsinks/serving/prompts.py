"""Prompts as the model was trained to read text: after the marker that begins a document."""

import copy
import threading
from typing import TYPE_CHECKING

from memsinks.corpus.tokenizer import encode_document
from memsinks.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Prompts:
    """Encodes prompts; thread-safe.

    Args:
        tokenizer: of the model.
        vocabulary: tokens that the model knows.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", vocabulary: int) -> None:
        # Encoding changes the settings of a tokenizer for a moment, while other threads decode with theirs.
        self._tokenizer = copy.deepcopy(tokenizer)
        self._vocabulary = vocabulary
        self._begin = [] if tokenizer.bos_token_id is None else [int(tokenizer.bos_token_id)]
        self._lock = threading.Lock()

    def encode(self, prompt: str | list[int]) -> list[int]:
        """The tokens of a text, with the marker before it, or tokens as they are.

        The names of special tokens are text like any other.

        Raises:
            InputError: the prompt is empty, is no text, or has a token that the model does not know.
        """
        if isinstance(prompt, str):
            if any("\ud800" <= character <= "\udfff" for character in prompt):
                raise InputError("the prompt has half of a surrogate pair, which is no text; give whole characters")
            with self._lock:
                tokens = [*self._begin, *encode_document(self._tokenizer, [prompt])[0].tolist()]
        else:
            tokens = prompt
        if not tokens:
            raise InputError("the prompt is empty; give at least one token")
        if min(tokens) < 0 or max(tokens) >= self._vocabulary:
            raise InputError(f"the prompt has a token outside 0 to {self._vocabulary - 1}")
        return tokens

    def text(self, prompt: str | list[int]) -> str:
        """The text of a prompt that :meth:`encode` takes."""
        if isinstance(prompt, str):
            return prompt
        with self._lock:
            return self._tokenizer.decode(prompt, skip_special_tokens=True)
