"""Make the story sample that the package ships, from the two files of the project's shared text data.

The inputs are zstandard-compressed JSON lines with the columns ``id``, ``source`` and ``text``: first the stories
whose boundaries are certain, then those whose boundaries a classifier decided. Every row of both is kept, in order,
and gets a column ``set`` ("clean" or "resplit"). The same inputs and the same zstandard give the same bytes.

::

    python scripts/make_story_sample.py tinystories.jsonl.zst tinystories-resplit.jsonl.zst \
        src/memsinks/data/stories.jsonl.zst
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import zstandard

LEVEL = 19
LIMIT = 4_000_000
"""Most bytes that the package may spend on stories."""


def rows(path: Path, name: str) -> list[dict[str, str]]:
    """The rows of one input file, marked with the set that they belong to."""
    with zstandard.open(path, "rt", encoding="utf-8", newline="\n") as lines:
        parsed = [json.loads(line) for line in lines]
    return [{"id": row["id"], "source": row["source"], "text": row["text"], "set": name} for row in parsed]


def main() -> int:
    """Write the sample; 0 when done, 1 when it would be over the limit or a story would appear twice."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clean", type=Path, help="stories with certain boundaries")
    parser.add_argument("resplit", type=Path, help="stories with boundaries decided by a classifier")
    parser.add_argument("out", type=Path, help="the file to write")
    args = parser.parse_args()

    sample = rows(args.clean, "clean") + rows(args.resplit, "resplit")
    for column in ("id", "text"):
        if len({row[column] for row in sample}) != len(sample):
            print(f"two rows have the same {column}", file=sys.stderr)
            return 1

    plain = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in sample).encode()
    packed = zstandard.ZstdCompressor(level=LEVEL).compress(plain)
    if len(packed) > LIMIT:
        print(f"the sample has {len(packed):,} bytes, over the limit of {LIMIT:,}", file=sys.stderr)
        return 1

    part = args.out.with_suffix(".part")
    part.write_bytes(packed)
    part.replace(args.out)
    print(f"{len(sample):,} stories, {len(plain):,} bytes, {len(packed):,} compressed")
    print(f"sha256 of the file  {hashlib.sha256(packed).hexdigest()}")
    print(f"sha256 of the rows  {hashlib.sha256(plain).hexdigest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
