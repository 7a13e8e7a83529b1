"""A corpus prepared to a URL: the bytes of a local one, whole or no corpus, and gone on with after a stop."""

import errno
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
from storages import WatchedFileSystem, content, done, raises

from memsinks.cli import main
from memsinks.corpus import Corpus, prepare
from memsinks.corpus import cache as caches
from memsinks.corpus.stages import read
from memsinks.corpus.work import Work
from memsinks.errors import InputError

from .conftest import CONFIG

LOG = "prepare.log"


@pytest.fixture
def target(watched) -> str:
    return f"watched://{watched}/shelf/corpus"


def rows(made: Corpus) -> Path:
    return made.path.parent / "rows.jsonl"


def interrupted(made, target, error=None, name="groups.parquet") -> InputError:
    """Prepare, with an upload that fails at a file."""
    WatchedFileSystem.between = staticmethod(raises(error or PermissionError(13, "denied"), "put", name))
    with pytest.raises(InputError) as caught:
        prepare(rows(made), target, CONFIG)
    WatchedFileSystem.between = staticmethod(lambda *_: None)
    WatchedFileSystem.journal.clear()
    return caught.value


def order(corpus: Corpus) -> list[str]:
    """File names as they are uploaded."""
    return [*(name.rpartition("/")[2] for name in corpus.manifest["files"]), LOG, "manifest.json"]


@pytest.mark.parametrize("protocol", ["file", "local", "watched"])
def test_the_corpus_is_that_of_a_folder_byte_for_byte(made, watched, cache, protocol):
    corpus = prepare(rows(made), f"{protocol}://{watched}/shelf/corpus/", CONFIG)
    assert content(watched / "shelf" / "corpus", LOG) == content(made.path, LOG)
    assert "finished" in (watched / "shelf" / "corpus" / LOG).read_text()
    assert corpus.hash == made.hash
    assert corpus.path == cache / "corpora" / corpus.hash
    assert not list((cache / "preparing").iterdir())
    if protocol == "watched":
        assert done("put") == order(corpus)
        assert not done("get")  # what was made here is not fetched


def test_an_object_store_has_no_folders(made, cache):
    memory = fsspec.filesystem("memory")
    try:
        assert prepare(rows(made), "memory://shelf/corpus", CONFIG).hash == made.hash
        found = {path.removeprefix("/shelf/corpus/"): memory.cat_file(path) for path in memory.find("/shelf/corpus")}
        assert {name: data for name, data in found.items() if name != LOG} == content(made.path, LOG)
        with pytest.raises(InputError, match="memory://shelf/corpus: already holds a corpus; choose another output"):
            prepare(rows(made), "memory://shelf/corpus", CONFIG)
    finally:
        memory.rm("/shelf", recursive=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("corpus/manifest.json", "already holds a corpus"),
        ("corpus/deep/.notes", r"not an empty folder \(deep/\.notes\)"),
        ("corpus", r"not an empty folder \(it is a file\)"),
    ],
)
def test_a_target_that_is_taken_is_refused_before_any_work(made, watched, cache, target, name, message):
    file = watched / "shelf" / name
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    # No input is looked at: this one would be refused too.
    with pytest.raises(InputError, match=f"^{target}: .*{message}; choose another output or remove"):
        prepare(watched / "nothing", target, CONFIG)
    assert content(watched) == {f"shelf/{name}": b"{}"}
    assert not cache.exists()


def test_an_upload_goes_on(made, watched, cache, target, monkeypatch):
    error = interrupted(made, target)
    assert str(error).startswith(f"{target}/groups.parquet: no permission ([Errno 13] denied); check the credentials")
    there = content(watched / "shelf" / "corpus")
    assert there.keys() == {"card.json", "card.md", "groups.parquet"}
    with pytest.raises(InputError, match=r"no manifest\.json\), or not uploaded to its end"):
        Corpus.open(target)
    # Same size, other bytes: only reading it back tells.
    (watched / "shelf" / "corpus" / "card.md").write_bytes(b"x" * len(there["card.md"]))
    monkeypatch.setattr(read, "text_hash", lambda _: 1 / 0)  # what is prepared stays so
    corpus = prepare(rows(made), target, CONFIG)
    assert corpus.hash == made.hash
    assert content(watched / "shelf" / "corpus", LOG) == content(made.path, LOG)
    assert done("put") == [name for name in order(corpus) if name != "card.json"]
    assert not list((cache / "preparing").iterdir())


def test_half_a_manifest_is_no_corpus(made, watched, target):
    interrupted(made, target, OSError(errno.ENOSPC, "full"), "manifest.json")
    assert (watched / "shelf" / "corpus" / "manifest.json").stat().st_size > 100
    with pytest.raises(InputError, match=r"manifest\.json: damaged"):
        Corpus.open(target)
    assert prepare(rows(made), target, CONFIG).hash == made.hash
    assert done("put") == [LOG, "manifest.json"]


def test_a_stop_after_the_end_costs_nothing(made, cache, target, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(caches, "keep", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare(rows(made), target, CONFIG)
    WatchedFileSystem.journal.clear()
    assert prepare(rows(made), target, CONFIG).hash == made.hash
    assert not done("put")
    assert not list((cache / "preparing").iterdir())


def test_a_full_storage_and_a_file_that_is_cut_are_told(made, target):
    error = interrupted(made, target, OSError(errno.EDQUOT, "quota"))
    assert str(error).startswith(f"{target}/groups.parquet: no space left to write it")
    WatchedFileSystem.between = staticmethod(lambda *a: "cut" if a == ("put", "tokenizer.json") else None)
    with pytest.raises(InputError, match=r"tokenizer/tokenizer\.json: \d+ of \d+ bytes arrived; run the same command"):
        prepare(rows(made), target, CONFIG)
    WatchedFileSystem.between = staticmethod(lambda *a: "cut" if a == ("put", "manifest.json") else None)
    with pytest.raises(InputError, match=r"manifest\.json: did not arrive whole; run the same command"):
        prepare(rows(made), target, CONFIG)
    WatchedFileSystem.between = staticmethod(lambda *_: None)
    assert prepare(rows(made), target, CONFIG).hash == made.hash


def test_other_settings_do_not_go_on_with_an_upload(made, watched, target):
    interrupted(made, target)
    before = content(watched)
    with pytest.raises(InputError, match=r"left by an unfinished preparation with other settings.*remove this folder"):
        prepare(rows(made), target, replace(CONFIG, seed=1))
    assert content(watched) == before


def test_nothing_that_came_meanwhile_is_overwritten(made, watched, target, monkeypatch):
    """Another machine fills the target while this one prepares."""
    shelf, whole = watched / "shelf" / "corpus", read.text_hash

    def fills(text):
        shelf.mkdir(parents=True, exist_ok=True)
        (shelf / "card.md").write_text("theirs")
        return whole(text)

    monkeypatch.setattr(read, "text_hash", fills)
    with pytest.raises(InputError, match=r"not an empty folder \(card\.md\)"):
        prepare(rows(made), target, CONFIG)
    assert content(shelf) == {"card.md": b"theirs"}


def test_another_corpus_is_not_overwritten_when_an_upload_goes_on(made, watched, target):
    interrupted(made, target)
    shelf = watched / "shelf" / "corpus"
    (shelf / "manifest.json").write_text("{}")
    before = content(shelf)
    with pytest.raises(InputError, match="already holds a corpus"):
        prepare(rows(made), target, CONFIG)
    assert content(shelf) == before


KILLED = """
import sys, time
from pathlib import Path
from storages import WatchedFileSystem
from memsinks.corpus import Columns, Local, PrepareConfig, prepare

def stay(action, name):
    if name == "passages.parquet":
        Path(sys.argv[3]).touch()
        time.sleep(600)

WatchedFileSystem.between = staticmethod(stay)
config = PrepareConfig(columns=Columns(source="source"), vocab_size=280, shard_documents=6)
prepare(sys.argv[1], sys.argv[2], config, executor=Local(1))
"""


def test_a_killed_command_goes_on(made, watched, target, monkeypatch):
    marker, tests = watched / "reached", str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", KILLED, str(rows(made)), target, str(marker)]
    process = subprocess.Popen(command, env=environment)
    while not marker.exists():
        assert process.poll() is None
        time.sleep(0.05)
    with pytest.raises(InputError, match="another process is preparing it"):
        prepare(rows(made), target, CONFIG)
    process.send_signal(signal.SIGKILL)
    process.wait()
    monkeypatch.setattr(read, "text_hash", lambda _: 1 / 0)
    WatchedFileSystem.journal.clear()
    corpus = prepare(rows(made), target, CONFIG)
    assert content(watched / "shelf" / "corpus", LOG) == content(made.path, LOG)
    names = order(corpus)
    assert done("put") == names[names.index("passages.parquet") :]


def test_where_a_corpus_is_prepared_follows_from_its_url(cache, monkeypatch):
    paths = {url: Work(url).path for url in ("s3://b/c", "s3://b/c/", "s3://b/d", "gs://b/c")}
    assert paths["s3://b/c"] == paths["s3://b/c/"]
    assert len(set(paths.values())) == 3
    assert {path.parent for path in paths.values()} == {cache / "preparing"}
    assert paths["s3://b/c"].name.startswith("c-")


def test_storages_that_cannot_be_used_are_named(made, cache, capsys):
    fsspec.register_implementation("absent", "no_such_package.System", errtxt="Install no_such_package", clobber=True)
    with pytest.raises(InputError, match=r"absent://b/c: the package .* is not installed \(Install no_such_package\)"):
        prepare(rows(made), "absent://b/c", CONFIG)
    with pytest.raises(InputError, match="nowhere://b/c: cannot be reached"):
        Corpus.open("nowhere://b/c")
    assert main(["prepare", str(rows(made)), "--output", "nowhere://b/c"]) == 2
    assert "error: nowhere://b/c: cannot be reached" in capsys.readouterr().err
    assert not cache.exists()


def test_a_client_without_credentials_is_told(made, target):
    class NoCredentialsError(Exception):
        pass

    error = interrupted(made, target, NoCredentialsError("Unable to locate credentials\nand more"))
    assert "no permission (Unable to locate credentials); check the credentials" in str(error)
