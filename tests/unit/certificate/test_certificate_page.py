"""The page about certificates: its programs do what it says, and its lists are those of the code."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from memsinks.certificate import DOES_NOT_CLAIM, certify, digests, write_key_pair
from tests.unit.certificate.conftest import predicate

PAGE = (Path(__file__).parents[3] / "docs" / "certificate.md").read_text(encoding="utf-8")
CHECK, MAKE = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)


def run(code, folder):
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)


@pytest.fixture
def received(tmp_path, delivered, key):
    """What a checker has: the directory, the certificate, the public key."""
    private, _ = write_key_pair(key, tmp_path, "desk")
    certify(delivered, predicate(digests(delivered)), [key], tmp_path / "certificate.json")
    private.unlink()
    return tmp_path


def test_the_check_without_memsinks(received):
    assert "memsinks" not in CHECK.replace("application/vnd", "")
    found = run(CHECK, received)
    assert (found.returncode, found.stdout) == (0, "as certified\n"), found.stderr


def test_the_check_without_memsinks_sees_a_change(received):
    with (received / "delivered" / "config.json").open("a") as file:
        file.write(" ")
    assert run(CHECK, received).stdout == "altered\n"
    certificate = received / "certificate.json"
    certificate.write_text(certificate.read_text().replace('"payload":"eyJf', '"payload":"eyJg'))
    found = run(CHECK, received)
    assert found.returncode == 1
    assert "InvalidSignature" in found.stderr


def test_the_example_in_python(tmp_path, delivered, key):
    write_key_pair(key, tmp_path, "desk")
    (tmp_path / "checkpoint-before").mkdir()
    (tmp_path / "checkpoint-before" / "model.safetensors").write_bytes(b"before")
    found = run(MAKE, tmp_path)
    assert (found.returncode, found.stdout) == (0, "True []\n"), found.stderr


def test_the_page_lists_what_no_certificate_claims():
    for sentence in DOES_NOT_CLAIM:
        assert f"- {sentence}\n" in PAGE


def test_the_page_lists_the_fields_of_the_predicate():
    content = predicate({"a": "0" * 64}).as_dict()
    rows = re.findall(r"^\| (`.*?) \|", PAGE, flags=re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == sorted(content)
