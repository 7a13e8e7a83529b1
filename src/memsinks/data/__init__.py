"""Text shipped inside the package, zstandard-compressed JSON lines with the columns ``id``, ``source`` and ``text``.

``stories`` is a sample of TinyStories, under the licence in ``LICENSE-stories.md``, with a column ``set``. Stories of
the set "clean" have certain boundaries and serve as repeated and validation text; those of the set "resplit" had their
boundaries decided by a classifier and serve as unrepeated training text. Both are in shuffled order, "clean" first.

``books`` and ``general`` are seven novels by chapter and other English text, all in the public domain; see
``LICENSE-texts.md``.
"""

from importlib.resources import files
from pathlib import Path


def story_file() -> Path:
    """Path of the shipped stories."""
    return _file("stories")


def book_file() -> Path:
    """Path of the shipped novels: a row a chapter, in reading order; the source names the novel."""
    return _file("books")


def general_file() -> Path:
    """Path of the shipped general text, in shuffled order."""
    return _file("general")


def _file(name: str) -> Path:
    return Path(str(files(__name__) / f"{name}.jsonl.zst"))
