import datetime
import errno
import gzip
import json
from pathlib import Path

import datasets
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from memsinks.corpus import Columns, Document, read_documents
from memsinks.corpus import rows as table_rows
from memsinks.errors import InputError

ROWS = [{"id": f"n{i}", "source": None if i == 2 else "s", "text": f"text {i} é", "k": i} for i in range(5)]
COLUMNS = Columns(source="source", metadata=("k",))
EXPECTED = [Document(r["id"], r["source"], r["text"], {"k": r["k"]}) for r in ROWS]
LINES = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in ROWS).encode()


def write_parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=2)


def write_arrow(path: Path, writer) -> None:
    table = pa.Table.from_pylist(ROWS)
    with writer(str(path), table.schema) as file:
        file.write_table(table, max_chunksize=2)


WRITERS = {
    "d.jsonl": lambda p: p.write_bytes(LINES),
    "d.json-lines": lambda p: p.write_bytes(b"\xef\xbb\xbf" + LINES.rstrip(b"\n")),
    "D.JSONL": lambda p: p.write_bytes(LINES.replace(b"\n", b"\r\n\n")),
    "d.jsonl.gz": lambda p: p.write_bytes(gzip.compress(LINES)),
    "d.jsonl.zst": lambda p: p.write_bytes(zstandard.compress(LINES)),
    "two-frames.jsonl.zst": lambda p: p.write_bytes(zstandard.compress(LINES[:37]) + zstandard.compress(LINES[37:])),
    "array.json": lambda p: p.write_text(json.dumps(ROWS, indent=1)),
    "array.json.gz": lambda p: p.write_bytes(gzip.compress(b"\xef\xbb\xbf " + json.dumps(ROWS).encode())),
    "lines.json.zst": lambda p: p.write_bytes(zstandard.compress(LINES)),
    "d.parquet": write_parquet,
    "file.arrow": lambda p: write_arrow(p, pa.ipc.new_file),
    "stream.arrow": lambda p: write_arrow(p, pa.ipc.new_stream),
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


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_an_array_is_read_through_any_buffer(tmp_path, monkeypatch, size):
    rows = [{"id": str(i), "text": 'brackets ]}, [{ and "quotes" é ' * i} for i in range(1, 6)]
    (tmp_path / "d.json").write_text(json.dumps(rows, ensure_ascii=False))
    monkeypatch.setattr(table_rows, "_CHUNK_BYTES", size)
    assert [(d.name, d.text) for d in read_documents([tmp_path / "d.json"])] == [(r["id"], r["text"]) for r in rows]


def test_a_damaged_array(tmp_path):
    whole = json.dumps(ROWS)
    for content in (whole[:-1], whole[: len(whole) // 2], whole.replace('"n3"', "n3")):
        (tmp_path / "d.json").write_text(content)
        with pytest.raises(InputError, match=r"d\.json, after element \d: invalid JSON array .*is the file complete"):
            list(read_documents([tmp_path / "d.json"], COLUMNS))
    (tmp_path / "d.json").write_text(json.dumps([*ROWS[:1], 3, *ROWS[1:]]).replace("}, 3", "},3"))
    rejected = []
    found = list(read_documents([tmp_path / "d.json"], COLUMNS, reject=lambda *entry: rejected.append(entry)))
    assert found == EXPECTED
    assert rejected == [
        (
            f"{tmp_path}/d.json, element 2",
            f"{tmp_path}/d.json, element 2: expected a JSON object with named columns, not int",
        )
    ]


def test_a_dataset_by_name(tmp_path):
    (tmp_path / "named").mkdir()
    (tmp_path / "named" / "train.jsonl").write_bytes(LINES)
    assert list(read_documents(f"dataset:{tmp_path}/named:train", COLUMNS)) == EXPECTED
    with pytest.raises(InputError, match=r"dataset:.*:test: cannot be loaded"):
        list(read_documents(f"dataset:{tmp_path}/named:test", COLUMNS))
    with pytest.raises(InputError, match="is named dataset:NAME:SPLIT"):
        list(read_documents("dataset:only-a-name", COLUMNS))


def test_files_behind_urls():
    memory = fsspec.filesystem("memory")
    memory.pipe({"/shelf/a/d.jsonl.gz": gzip.compress(LINES), "/shelf/.hidden.jsonl": b"{", "/shelf/notes.md": b""})
    try:
        assert list(read_documents("memory://shelf/a/d.jsonl.gz", COLUMNS)) == EXPECTED
        assert list(read_documents(["memory://shelf"], COLUMNS)) == EXPECTED
        with pytest.raises(InputError, match="memory://none: no such file"):
            list(read_documents("memory://none", COLUMNS))
        with pytest.raises(InputError, match="nowhere://x: cannot be reached"):
            list(read_documents("nowhere://x", COLUMNS))
    finally:
        memory.rm("/shelf", recursive=True)


def test_columns_of_governance_have_names_of_their_own(tmp_path):
    day = datetime.date(2024, 2, 29)
    rows = [
        {"body": "text", "nr": 3, "license": "CC0", "signed": "A-17", "published": day, "until": 2030, "lang": "en"}
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "d.parquet")
    columns = Columns(
        text="body",
        id="nr",
        licence="license",
        contract="signed",
        date="published",
        deletion_terms="until",
        metadata=("lang", "published"),
    )
    (found,) = read_documents(tmp_path, columns)
    assert found.metadata == {
        "licence": "CC0",
        "contract": "A-17",
        "date": "2024-02-29",
        "deletion_terms": "2030",
        "lang": "en",
        "published": "2024-02-29",
    }
    with pytest.raises(InputError, match=r"'licence' has the name under which column 'license' is stored"):
        list(read_documents(tmp_path, Columns(text="body", id="nr", licence="license", metadata=("licence",))))


def test_a_folder_may_be_the_source(tmp_path):
    for name in ("north/a.txt", "north/b/c.txt", "loose.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "south").mkdir()
    (tmp_path / "south" / "rows.jsonl").write_text('{"text": "x", "house": "west"}\n{"text": "y", "house": null}\n')
    columns = Columns(id=None, source="house", folder_source=True)
    found = {d.name: d.source for d in read_documents(tmp_path, columns)}
    assert found == {
        "loose.txt": None,
        "north/a.txt": "north",
        "north/b/c.txt": "north",
        "south/rows.jsonl:1": "west",
        "south/rows.jsonl:2": "south",
    }


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
    "text with a NUL": (row(text="a\0b"), r":1: column 'text' has a NUL character at 1"),
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
