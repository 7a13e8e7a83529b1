"""Make the books and the general text that the package ships, from two files of the project's shared text data.

The inputs are zstandard-compressed JSON lines with the columns ``id``, ``source`` and ``text``. Books are kept whole,
in reading order. Of general text the sources in the public domain are kept, each up to as many characters as ``MOST``,
documents in their order, which is shuffled; documents longer than a fifth of that are left out, so that no source is a
handful of them. The same inputs and the same zstandard give the same bytes.

::

    python scripts/make_text_sample.py books.jsonl.zst general-text.jsonl.zst src/memsinks/data
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import zstandard

LEVEL = 19
MOST = 2_500_000
FREE = ("cia-world-factbook", "nonfiction:", "us-state-of-the-union")
"""How the names of sources in the public domain begin."""


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of one input file."""
    with zstandard.open(path, "rt", encoding="utf-8", newline="\n") as lines:
        return [{key: row[key] for key in ("id", "source", "text")} for row in map(json.loads, lines)]


def capped(documents: list[dict[str, str]]) -> list[dict[str, str]]:
    """The documents in the public domain, up to the limit for each source."""
    kept, size = [], dict.fromkeys((d["source"] for d in documents), 0)
    for document in documents:
        length = len(document["text"])
        if document["source"].startswith(FREE) and length <= MOST // 5 and size[document["source"]] + length <= MOST:
            size[document["source"]] += length
            kept.append(document)
    return kept


def write(documents: list[dict[str, str]], file: Path) -> None:
    """Write rows, and say their hash."""
    plain = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in documents).encode()
    packed = zstandard.ZstdCompressor(level=LEVEL).compress(plain)
    part = file.with_suffix(".part")
    part.write_bytes(packed)
    part.replace(file)
    print(f"{file.name}: {len(documents):,} documents, {len(plain):,} bytes, {len(packed):,} compressed")
    print(f"sha256 of the rows  {hashlib.sha256(plain).hexdigest()}")


def main() -> int:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("books", type=Path, help="chapters of books")
    parser.add_argument("general", type=Path, help="general text")
    parser.add_argument("out", type=Path, help="the folder to write to")
    args = parser.parse_args()
    write(rows(args.books), args.out / "books.jsonl.zst")
    write(capped(rows(args.general)), args.out / "general.jsonl.zst")
    return 0


if __name__ == "__main__":
    sys.exit(main())
