"""Passages lose nothing, and a dataset that a setting names is read as it is."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest

from memsinks.errors import InputError
from memsinks.experiments.sizes import STORIES
from memsinks.experiments.stories import story_text
from memsinks.experiments.texts import passages, streamed_documents


def test_passages_end_where_lines_do_and_lose_nothing():
    lines = [f"line {i} " + "word " * (i % 7) + "\n" for i in range(50)]
    pieces = passages("".join(lines), 100)
    assert "".join(pieces) == "".join(lines)
    assert max(map(len, pieces)) <= 100
    assert all(piece.endswith("\n") for piece in pieces)
    # Nothing more would have fitted.
    assert all(len(a) + len(b.splitlines(keepends=True)[0]) > 100 for a, b in pairwise(pieces))


def test_a_long_line_is_cut_after_a_blank():
    assert passages("one two three four", 9) == ["one two ", "three ", "four"]
    assert passages("x" * 25, 10) == ["x" * 10, "x" * 10, "x" * 5]
    assert passages("", 10) == []


def test_a_folder_stands_in_for_a_name(tmp_path):
    rows = [{"text": "a"}, {"text": " "}, {"text": None}, {"text": "b"}]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert [d.text for d in streamed_documents(str(tmp_path))] == ["a", "b"]


def test_a_column_of_another_name_is_told(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"content": "a"}\n')
    with pytest.raises(InputError, match="no column 'text'"):
        next(streamed_documents(str(tmp_path)))


def test_stories_are_read_by_name_too(tmp_path):
    texts = [f"Once there were {i} cats. " + "They ran and played all day. " * 10 for i in range(300)]
    (tmp_path / "train.jsonl").write_text("\n".join(json.dumps({"text": t}) for t in [*texts, texts[0]]))
    text = story_text(replace(STORIES["smoke"], source=str(tmp_path)), 0, tmp_path / "corpus")
    assert len(text.repeated) == STORIES["smoke"].repeated
