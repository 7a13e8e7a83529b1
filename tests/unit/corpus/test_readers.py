import errno
import gzip
import json
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from memsinks.corpus import Columns, Document, read_documents
from memsinks.errors import InputError

ROWS = [{"id": f"n{i}", "source": None if i == 2 else "s", "text": f"text {i} é", "k": i} for i in range(5)]
COLUMNS = Columns(source="source", metadata=("k",))
EXPECTED = [Document(r["id"], r["source"], r["text"], {"k": r["k"]}) for r in ROWS]
LINES = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in ROWS).encode()


def write_parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=2)


WRITERS = {
    "d.jsonl": lambda p: p.write_bytes(LINES),
    "d.json-lines": lambda p: p.write_bytes(b"\xef\xbb\xbf" + LINES.rstrip(b"\n")),
    "D.JSONL": lambda p: p.write_bytes(LINES.replace(b"\n", b"\r\n\n")),
    "d.jsonl.gz": lambda p: p.write_bytes(gzip.compress(LINES)),
    "d.jsonl.zst": lambda p: p.write_bytes(zstandard.compress(LINES)),
    "two-frames.jsonl.zst": lambda p: p.write_bytes(zstandard.compress(LINES[:37]) + zstandard.compress(LINES[37:])),
    "d.parquet": write_parquet,
    "saved": lambda p: datasets.Dataset.from_list(ROWS).save_to_disk(p, num_shards=2),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_documents(tmp_path, name, capsys):
    WRITERS[name](tmp_path / name)
    assert list(read_documents([tmp_path / name], COLUMNS)) == EXPECTED


def test_dataset_objects(tmp_path):
    dataset = datasets.Dataset.from_list(ROWS)
    assert list(read_documents(dataset, COLUMNS)) == EXPECTED
    assert list(read_documents(dataset.with_format("numpy"), COLUMNS)) == EXPECTED
    assert list(read_documents(dataset.to_iterable_dataset(), COLUMNS)) == EXPECTED
    with pytest.raises(InputError, match="choose one split"):
        list(read_documents(datasets.DatasetDict(train=dataset)))


def test_a_long_line_crosses_read_buffers(tmp_path):
    text = "abcdefg " * 400_000
    (tmp_path / "d.jsonl").write_text(
        json.dumps({"id": "a", "text": text}) + "\n" + json.dumps({"id": "b", "text": "x"})
    )
    assert [len(d.text) for d in read_documents([tmp_path / "d.jsonl"])] == [len(text), 1]


def test_folders_are_read_recursively_in_sorted_order(tmp_path):
    (tmp_path / "b" / "c").mkdir(parents=True)
    (tmp_path / "b" / "c" / "z.txt").write_text("zed")
    (tmp_path / "a.txt").write_text("a text\n")
    (tmp_path / "README.md").write_text("not a document")
    (tmp_path / ".hidden.txt").write_text("not a document")
    (tmp_path / "b" / "rows.jsonl").write_text('{"text": "row"}\n')
    found = list(read_documents([tmp_path], Columns(id=None)))
    assert [(d.name, d.text) for d in found] == [("a.txt", "a text\n"), ("b/c/z.txt", "zed"), ("b/rows.jsonl:1", "row")]


def test_names_may_be_integers_and_default_to_row_numbers(write_rows):
    path = write_rows([{"id": 7, "text": "x"}, {"id": 8, "text": "y"}])
    assert [d.name for d in read_documents(path)] == ["7", "8"]
    assert [d.name for d in read_documents(path, Columns(id=None))] == ["data.jsonl:1", "data.jsonl:2"]


def test_reading_is_lazy(tmp_path):
    (tmp_path / "d.jsonl").write_bytes(LINES + b"not json\n")
    documents = read_documents([tmp_path / "d.jsonl"])
    assert [next(documents).name for _ in range(5)] == [f"n{i}" for i in range(5)]
    with pytest.raises(InputError, match=r"d\.jsonl:6: invalid JSON"):
        next(documents)


def row(**changes):
    return json.dumps({"id": "a", "source": "s", "text": "x", "k": 1} | changes).encode()


BAD_LINES = {
    "invalid JSON": (b"{'id': 1}", r":1: invalid JSON"),
    "too deep": (b"[" * 100_000, r":1: invalid JSON"),
    "not an object": (b"[1, 2]", r":1: expected a JSON object.*not list"),
    "not UTF-8": (row() + b"\n\xff\xfe", r":2: not valid UTF-8 at byte 0; convert"),
    "half a surrogate": (rb'{"id": "a", "source": "s", "k": 1, "text": "\ud800"}', r":1: column 'text'.*surrogate"),
    "no text column": (b'{"id": "a", "body": "x"}', r":1: no column 'text'; the columns are 'id', 'body'"),
    "no id column": (b'{"source": "s", "text": "x", "k": 1}', r":1: no column 'id'"),
    "no metadata column": (b'{"id": "a", "source": "s", "text": "x"}', r":1: no column 'k'"),
    "null text": (row() + b"\n" + row(id="b", text=None), r":2: column 'text' is null"),
    "blank text": (row(text=" \n\t"), r":1: column 'text' is empty or blank"),
    "text is a number": (row(text=3), r":1: column 'text' must be a string, not int"),
    "text is a list": (row(text=["x"]), r":1: column 'text' must be a string, not list"),
    "null id": (row(id=None), r":1: column 'id' is empty"),
    "id is a list": (row(id=[1]), r":1: column 'id' must be a string or an integer, not list"),
    "source is a boolean": (row(source=True), r":1: column 'source' must be a string"),
    "metadata is an object": (row(k={"x": 1}), r":1: column 'k' must be a string, number"),
    "duplicate name": (row() + b"\n\n" + row(text="other"), r":3: the document name 'a'.*already used at .*:1;"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_bad_rows_are_named(tmp_path, case):
    content, message = BAD_LINES[case]
    (tmp_path / "bad.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.jsonl" + message):
        list(read_documents([tmp_path / "bad.jsonl"], COLUMNS))


def test_duplicate_names_in_two_files(write_rows):
    files = [write_rows([{"id": "a", "text": t}], f"{t}.jsonl") for t in "xy"]
    with pytest.raises(InputError, match=r"y\.jsonl:1: the document name 'a' .* x?.*x\.jsonl:1"):
        list(read_documents(files))


@pytest.mark.parametrize("suffix", ["gz", "zst"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "corrupt", "wrong"])
def test_damaged_compression(tmp_path, suffix, damage):
    noise = np.random.default_rng(0).integers(0, 2**62, 500).tolist()
    content = "".join(json.dumps({"id": n, "text": str(n)}) + "\n" for n in noise).encode()
    whole = (
        gzip.compress(content) if suffix == "gz" else zstandard.ZstdCompressor(write_checksum=True).compress(content)
    )
    middle = len(whole) // 2
    damaged = {
        "truncated": whole[:-7],
        "empty": b"",
        "corrupt": whole[:middle] + bytes(b ^ 255 for b in whole[middle : middle + 40]) + whole[middle + 40 :],
        "wrong": content,
    }[damage]
    path = tmp_path / f"d.jsonl.{suffix}"
    path.write_bytes(damaged)
    if (suffix, damage) == ("gz", "empty"):  # the gzip format allows a file of no members
        assert list(read_documents([path])) == []
        return
    with pytest.raises(InputError, match=rf"d\.jsonl\.{suffix}(: damaged or truncated|:\d+: (invalid|not valid))"):
        list(read_documents([path]))


def test_bad_parquet(tmp_path):
    path = tmp_path / "d.parquet"
    write_parquet(path)
    with pytest.raises(InputError, match=r"d\.parquet: no column 'body'; the columns are 'id', 'source', 'text', 'k'"):
        list(read_documents([path], Columns(text="body")))
    with pytest.raises(InputError, match=r"d\.parquet, row 1: column 'k' must be a string, not int"):
        list(read_documents([path], Columns(text="k")))
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(InputError, match=r"d\.parquet: cannot be read as Parquet"):
        list(read_documents([path]))


def test_bad_plain_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    with pytest.raises(InputError, match=r"a\.txt: not valid UTF-8 at byte 3"):
        list(read_documents([tmp_path]))
    (tmp_path / "a.txt").write_bytes(b" \n")
    with pytest.raises(InputError, match=r"a\.txt: the file is empty or blank"):
        list(read_documents([tmp_path]))


def test_bad_paths(tmp_path):
    with pytest.raises(InputError, match=r"none\.jsonl: no such file"):
        list(read_documents([tmp_path / "none.jsonl"]))
    (tmp_path / "d.csv").write_text("id,text\n")
    with pytest.raises(InputError, match=r"d\.csv: unsupported kind of file; supported are \.jsonl"):
        list(read_documents([tmp_path / "d.csv"]))
    with pytest.raises(InputError, match="holds no supported file"):
        list(read_documents([tmp_path]))
    with pytest.raises(InputError, match=r"must be a path or one datasets.Dataset, not dict"):
        list(read_documents([{"text": "x"}]))
    datasets.DatasetDict(train=datasets.Dataset.from_list(ROWS)).save_to_disk(tmp_path / "splits")
    with pytest.raises(InputError, match=r"several splits; name one of the folders train"):
        list(read_documents([tmp_path / "splits"]))


def test_an_unreadable_file(tmp_path, monkeypatch):
    path = tmp_path / "d.jsonl"
    path.write_bytes(LINES)

    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=r"d\.jsonl: cannot be read \(Permission denied\)"):
        list(read_documents([path]))
