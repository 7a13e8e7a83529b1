"""Text shipped inside the package: a sample of TinyStories, under the licence in ``LICENSE-stories.md``.

The rows are JSON lines with the columns ``id``, ``source``, ``text`` and ``set``. Stories of the set "clean" have
certain boundaries and serve as repeated and validation text; those of the set "resplit" had their boundaries decided
by a classifier and serve as unrepeated training text. Both sets are in shuffled order, "clean" first.
"""

from importlib.resources import files
from pathlib import Path


def story_file() -> Path:
    """Path of the shipped stories, zstandard-compressed JSON lines."""
    return Path(str(files(__name__) / "stories.jsonl.zst"))
