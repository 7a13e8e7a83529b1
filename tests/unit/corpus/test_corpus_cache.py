"""A corpus behind a URL is fetched once, appears whole and verified or not at all, and is then opened like a folder."""

import errno
import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import fsspec
import pytest
from storages import WatchedFileSystem, content, done, raises

from memsinks.corpus import Corpus, cache, why
from memsinks.errors import InputError

LOG = "prepare.log"


@pytest.fixture
def remote(made, watched) -> Path:
    """A copy of the corpus behind ``watched://``."""
    return Path(shutil.copytree(made.path, watched / "corpus"))


def url(folder: Path) -> str:
    return f"watched://{folder}"


def names(corpus: Corpus) -> list[str]:
    return [name.rpartition("/")[2] for name in corpus.manifest["files"]]


def test_it_is_fetched_once_and_is_the_same(made, remote, cache):
    corpus = Corpus.open(url(remote))
    assert corpus.path == cache / "corpora" / hashlib.sha256((made.path / "manifest.json").read_bytes()).hexdigest()
    assert content(corpus.path) == content(made.path, LOG)
    assert (corpus.hash, corpus.place, len(corpus)) == (made.hash, url(remote), len(made))
    assert done("get") == names(made)
    assert why(corpus, "d03") == why(made, "d03")
    WatchedFileSystem.journal.clear()
    again = Corpus.open(url(remote) + "/", ids="source")
    assert again.path == corpus.path
    assert again.sequence_ids.tolist() == made.source_ids.tolist()
    assert WatchedFileSystem.journal == [("read", "manifest.json")]


def test_objects_of_a_store_are_fetched(made, cache):
    memory = fsspec.filesystem("memory")
    try:
        memory.pipe({f"/shelf/{name}": data for name, data in content(made.path).items()})
        assert content(Corpus.open("memory://shelf").path) == content(made.path, LOG)
    finally:
        memory.rm("/shelf", recursive=True)


def test_messages_name_the_url_and_workers_ask_no_storage(remote):
    corpus = Corpus.open(url(remote))
    shutil.rmtree(remote)
    WatchedFileSystem.journal.clear()
    copy = pickle.loads(pickle.dumps(corpus))
    assert copy.tokens(3).tolist() == corpus.tokens(3).tolist()
    assert WatchedFileSystem.journal == []
    with pytest.raises(InputError, match=f"^{url(remote)}: no document 'x'"):
        copy.index("x")


def test_a_new_corpus_at_the_url_is_another_one(made, remote, cache):
    first = Corpus.open(url(remote))
    changed = made.manifest | {"note": "prepared again"}
    (remote / "manifest.json").write_text(json.dumps(changed))
    second = Corpus.open(url(remote))
    assert first.path != second.path
    assert {p.name for p in (cache / "corpora").iterdir() if p.is_dir()} == {first.hash, second.hash}


@pytest.mark.parametrize("index", range(7))
def test_a_damaged_file_is_never_opened(made, remote, cache, index):
    """The first six files of the manifest, and the last: altered in one bit, cut, or gone."""
    name = (list(made.manifest["files"])[:6] + list(made.manifest["files"])[-1:])[index]
    good = (remote / name).read_bytes()
    for bad in (bytes([good[0] ^ 1]) + good[1:], good[:-1], None):
        if bad is None:
            (remote / name).unlink()
        else:
            (remote / name).write_bytes(bad)
        with pytest.raises(InputError, match=rf"^{url(remote)}/{name}: (damaged or replaced|there is no such file)"):
            Corpus.open(url(remote), verify=False)
        assert not (cache / "corpora" / made.hash).exists()
    WatchedFileSystem.journal.clear()
    (remote / name).write_bytes(good)
    assert content(Corpus.open(url(remote)).path) == content(made.path, LOG)
    # What came well before it is not fetched again.
    assert done("get") == [n.rpartition("/")[2] for n in made.manifest["files"]][names(made).index(Path(name).name) :]


def test_a_fetch_that_failed_goes_on(made, remote, cache):
    WatchedFileSystem.between = staticmethod(raises(ConnectionError("lost"), "get", "groups.parquet"))
    with pytest.raises(InputError, match=rf"^{url(remote)}/groups\.parquet: cannot be reached \(lost\); check the URL"):
        Corpus.open(url(remote))
    assert not [p for p in (cache / "corpora").iterdir() if not p.name.startswith(".")]
    fetched = done("get")
    WatchedFileSystem.between = staticmethod(raises(OSError(errno.ENOSPC, "full"), "get", "groups.parquet"))
    with pytest.raises(InputError, match=rf"^{cache}/corpora/.*groups\.parquet: no space left"):
        Corpus.open(url(remote))
    WatchedFileSystem.between = staticmethod(lambda *_: None)
    assert Corpus.open(url(remote)).hash == made.hash
    assert fetched
    assert done("get") == names(made)
    assert {p.name for p in (cache / "corpora").iterdir()} == {made.hash, f".{made.hash}.lock"}


def test_a_part_of_a_corpus_is_none(made, remote):
    (remote / "manifest.json").unlink()
    with pytest.raises(
        InputError, match=rf"^{url(remote)}: not a prepared corpus \(no manifest\.json\), or not upload"
    ):
        Corpus.open(url(remote))
    (remote / "manifest.json").write_text('{"format": "other"}')
    with pytest.raises(InputError, match=rf"^{url(remote)}/manifest\.json: not the manifest of a corpus"):
        Corpus.open(url(remote))
    assert not done("get")


@pytest.mark.parametrize("name", ["../escaped", "/{root}/escaped", "a/../../escaped", "a\\..\\escaped"])
def test_a_manifest_cannot_write_outside_the_cache(made, remote, tmp_path, name):
    name = name.format(root=tmp_path)
    files = {name: {"bytes": 1, "sha256": hashlib.sha256(b"x").hexdigest()}}
    (remote / "manifest.json").write_text(json.dumps(made.manifest | {"files": files}))
    with pytest.raises(InputError, match="is not inside the corpus"):
        Corpus.open(url(remote))
    assert not done("get")


def test_a_copy_that_was_altered_is_found_when_it_is_verified(remote):
    corpus = Corpus.open(url(remote))
    (corpus.path / "card.md").write_text("else")
    with pytest.raises(InputError, match=rf"card\.md: altered .*remove {corpus.path}, and it is fetched again from wa"):
        Corpus.open(url(remote))
    assert Corpus.open(url(remote), verify=False).hash == corpus.hash


OPENS = """
import sys
from storages import WatchedFileSystem
from memsinks.corpus import Corpus
import time

def slow(action, name):
    time.sleep(0.1)

WatchedFileSystem.between = staticmethod(slow)
print("ready", flush=True)
sys.stdin.readline()
corpus = Corpus.open(sys.argv[1])
print(corpus.hash, *(name for action, name in WatchedFileSystem.journal if action == "get"))
"""


def test_processes_at_once_fetch_it_once(made, remote, cache):
    tests = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", OPENS, url(remote)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    ranks = [subprocess.Popen(command, **pipes) for _ in range(2)]
    for rank in ranks:
        assert rank.stdout.readline() == "ready\n"
    for rank in ranks:
        rank.stdin.write("go\n")
        rank.stdin.flush()
    answers = [rank.communicate(timeout=120)[0].split() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0]
    assert {answer[0] for answer in answers} == {made.hash}
    assert Counter(name for answer in answers for name in answer[1:]) == Counter(names(made))
    assert content(cache / "corpora" / made.hash) == content(made.path, LOG)


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    found = {}
    for name in ("MEMSINKS_CACHE", "XDG_CACHE_HOME", "HOME"):
        for other in ("MEMSINKS_CACHE", "XDG_CACHE_HOME"):
            monkeypatch.delenv(other, raising=False)
        monkeypatch.setenv(name, str(tmp_path / name))
        found[name] = cache.preparing("s3://b/c").parent
    assert found == {
        "MEMSINKS_CACHE": tmp_path / "MEMSINKS_CACHE" / "preparing",
        "XDG_CACHE_HOME": tmp_path / "XDG_CACHE_HOME" / "memsinks" / "preparing",
        "HOME": tmp_path / "HOME" / ".cache" / "memsinks" / "preparing",
    }


def test_a_cache_that_cannot_be_written_is_named(remote, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MEMSINKS_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=rf"{tmp_path}/file/.*cannot be written.*another folder in MEMSINKS_CACHE"):
        Corpus.open(url(remote))
