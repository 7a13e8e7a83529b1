"""Names and rare words of a text, at their first mention, with their tokens."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

SHORTEST = 3
"""Letters of a word."""
_WORD = re.compile(r"(?<= )[^\W\d_]+")
_SENTENCE_ENDS = ".!?:;\"“”'‘’\n"


@dataclass(frozen=True)
class Mention:
    """A word where a text first has it.

    Attributes:
        word: as written.
        name: it is a name: capitalised within a sentence; else it is in small letters.
        begin: its first character.
        start, stop: its tokens, which include the blank before it.
    """

    word: str
    name: bool
    begin: int
    start: int
    stop: int


def mentions(text: str, offsets: Sequence[tuple[int, int]]) -> list[Mention]:
    """First mentions in a text, in their order.

    A word counts if it follows a blank, has three letters or more, is written as a name or in small letters, did not
    occur before, not even within another word or in other letters, and has tokens of its own. Words that begin a
    sentence are left out, because their capital says nothing.

    Args:
        text: of a document.
        offsets: of its tokens, in characters; a token may begin with the blank before its word or after it.
    """
    starts = {begin: i for i, (begin, end) in reversed(list(enumerate(offsets))) if begin < end}
    stops = {end: i + 1 for i, (begin, end) in enumerate(offsets) if begin < end}
    lower, found = text.lower(), []
    for match in _WORD.finditer(text):
        word, begin = match.group(), match.start()
        name = word[0].isupper() and word[1:].islower()
        if len(word) < SHORTEST or not (name or word.islower()):
            continue
        if (name and _begins_sentence(text[:begin])) or word.lower() in lower[:begin]:
            continue
        start, stop = starts.get(begin - 1, starts.get(begin)), stops.get(match.end())
        if start is not None and stop is not None and start < stop:
            found.append(Mention(word, name, begin, start, stop))
    return found


def _begins_sentence(before: str) -> bool:
    before = before.rstrip(" ")
    return not before or before[-1] in _SENTENCE_ENDS
