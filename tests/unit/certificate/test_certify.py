"""Certificates as files: what they cover, and what is refused before one is written."""

import base64
import hashlib
import json
import os
import tracemalloc
from dataclasses import replace

import pytest

from memsinks.certificate import SigningKey, certify, digests
from memsinks.certificate.files import write_whole
from memsinks.errors import InputError
from tests.unit.certificate.conftest import predicate


def statement_of(file):
    return json.loads(base64.b64decode(json.loads(file.read_text())["payload"]))


def test_the_subject_is_every_file_in_order(certificate, delivered):
    statement = statement_of(certificate)
    assert statement.keys() == {"_type", "subject", "predicateType", "predicate"}
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "urn:memsinks:removal:v1"
    assert statement["subject"] == [
        {"name": name, "digest": {"sha256": hashlib.sha256((delivered / name).read_bytes()).hexdigest()}}
        for name in ("config.json", "model.safetensors", "tokenizer/tokenizer.json")
    ]


def test_hidden_files_are_left_out(delivered):
    before = digests(delivered)
    (delivered / ".cache" / "deep").mkdir(parents=True)
    (delivered / ".cache" / "deep" / "a").touch()
    (delivered / "tokenizer" / ".gitattributes").touch()
    assert digests(delivered) == before


def test_the_same_certificate_twice(tmp_path, delivered, key):
    made = predicate(digests(delivered))
    hashes = [certify(delivered, made, [key], tmp_path / name) for name in ("a", "b")]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert hashes == [hashlib.sha256((tmp_path / "a").read_bytes()).hexdigest()] * 2


def refused(delivered, keys, output, words, **changed):
    made = predicate(**{"after": digests(delivered)} | changed)
    root = delivered.parent
    before = sorted(root.rglob("*"))
    with pytest.raises(InputError, match=words):
        certify(delivered, made, keys, output)
    assert sorted(root.rglob("*")) == before


def test_what_is_refused_leaves_no_file(delivered, key):
    output = delivered.parent / "certificate.json"
    other = {"model.safetensors": "f" * 64}
    refused(delivered, [], output, "at least one")
    refused(delivered, [key, key], output, "twice")
    refused(delivered, [key], delivered / "config.json", "exists already")
    refused(delivered, [key], delivered.parent / "absent" / "a", "no folder")
    refused(delivered, [key], output, "model.safetensors .f{64}., but there is another content", after=other)
    refused(delivered, [key], output, "there is no such file", after={"sinks.json": "f" * 64})
    refused(delivered, [key], output, "config.json differs from the evidence", evidence={"config.json": "f" * 64})
    refused(delivered, [key], output, "predicate cannot be used: code_version", code_version="")
    refused(delivered, [key], output, "does_not_claim is fixed", does_not_claim=("Nothing.",))


@pytest.mark.parametrize("kind", ["file link", "folder link", "dangling link", "pipe", "backslash", "newline", "bytes"])
def test_only_plain_files_are_certified(delivered, key, kind):
    made = predicate(digests(delivered))
    match kind:
        case "file link":
            (delivered / "a").symlink_to("config.json")
        case "folder link":
            (delivered / "a").symlink_to("tokenizer")
        case "dangling link":
            (delivered / "a").symlink_to("absent")
        case "pipe":
            os.mkfifo(delivered / "a")
        case "backslash":
            (delivered / "a\\b").touch()
        case "newline":
            (delivered / "a\nb").touch()
        case "bytes":
            (delivered / os.fsdecode(b"a\xff")).touch()
    output = delivered.parent / "certificate.json"
    with pytest.raises(InputError, match="plain files only"):
        certify(delivered, made, [key], output)
    assert not output.exists()


def test_directories_that_cannot_be_certified(tmp_path, delivered, key):
    made = predicate(digests(delivered))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no files"):
        certify(tmp_path / "empty", made, [key], tmp_path / "c")
    for folder in (tmp_path / "absent", delivered / "config.json"):
        with pytest.raises(InputError, match="cannot be read as a folder"):
            certify(folder, made, [key], tmp_path / "c")


def test_a_certificate_may_lie_in_its_directory(delivered, key):
    made = predicate(digests(delivered))
    certify(delivered, made, [key], delivered / "certificate.json")
    assert "certificate.json" not in digests(delivered, besides=delivered / "certificate.json")
    # The next one covers it.
    again = replace(made, removal="r-18")
    certify(delivered, again, [SigningKey.generate()], delivered / "second.json")
    names = [entry["name"] for entry in statement_of(delivered / "second.json")["subject"]]
    assert "certificate.json" in names


def test_hashing_takes_no_memory_of_the_size_of_a_file(tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(64 << 20)
    tracemalloc.start()
    try:
        found = digests(tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found["large"] == hashlib.sha256(bytes(64 << 20)).hexdigest()
    assert peak < 4 << 20


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    file = tmp_path / "a.json"
    file.write_text("old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left"):
        write_whole(file, b"new")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]
