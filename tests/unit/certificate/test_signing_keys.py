"""Keys in files and variables: read back, refused when others may read them, never shown."""

import base64
import pickle
import shutil
import subprocess
import traceback

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from memsinks.certificate import (
    PublicKey,
    SigningKey,
    read_public_key,
    read_signing_key,
    signing_key_from_environment,
    write_key_pair,
)
from memsinks.errors import InputError

# RFC 8032, 7.1, test 2.
SECRET = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


def test_the_vector_of_the_standard(monkeypatch):
    monkeypatch.setenv("KEY", base64.b64encode(SECRET).decode() + "\n")
    key = signing_key_from_environment("KEY")
    assert key.public.raw == PUBLIC
    assert key.sign(b"\x72") == SIGNATURE
    assert key.public.verifies(SIGNATURE, b"\x72")
    assert not key.public.verifies(SIGNATURE, b"\x73")
    assert not key.public.verifies(b"short", b"\x72")


def test_files_are_read_back(tmp_path, key, monkeypatch):
    private, public = write_key_pair(key, tmp_path, "desk")
    assert private.stat().st_mode & 0o777 == 0o600
    assert read_public_key(public) == read_signing_key(private).public == key.public
    monkeypatch.setenv("KEY", private.read_text())
    assert signing_key_from_environment("KEY").public == key.public


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs the program openssl")
def test_openssl_reads_the_files(tmp_path, key):
    private, public = write_key_pair(key, tmp_path, "desk")
    derived = subprocess.run(["openssl", "pkey", "-in", private, "-pubout"], capture_output=True, check=True).stdout
    assert derived == public.read_bytes()


def test_a_passphrase_is_needed_and_must_be_right(tmp_path, key, monkeypatch):
    monkeypatch.setenv("PHRASE", "correct horse")
    monkeypatch.setenv("WRONG", "battery staple")
    private, _ = write_key_pair(key, tmp_path, "desk", passphrase_variable="PHRASE")
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in private.read_bytes()
    assert read_signing_key(private, passphrase_variable="PHRASE").public == key.public
    monkeypatch.setenv("KEY", private.read_text())
    assert signing_key_from_environment("KEY", passphrase_variable="PHRASE").public == key.public
    for variable, words in ((None, "is encrypted"), ("WRONG", "WRONG is wrong"), ("UNSET", "UNSET is not set")):
        with pytest.raises(InputError, match=words):
            read_signing_key(private, passphrase_variable=variable)
    open_, _ = write_key_pair(key, tmp_path, "open")
    with pytest.raises(InputError, match="is not encrypted"):
        read_signing_key(open_, passphrase_variable="PHRASE")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_key_that_others_may_read_is_refused(tmp_path, key, mode):
    private, _ = write_key_pair(key, tmp_path, "desk")
    private.chmod(mode)
    with pytest.raises(InputError, match=f"chmod 600 {private}"):
        read_signing_key(private)


def test_nothing_is_replaced(tmp_path, key):
    private, public = write_key_pair(key, tmp_path, "desk")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for remaining in (public, private):
        with pytest.raises(InputError, match="exists already"):
            write_key_pair(SigningKey.generate(), tmp_path, "desk")
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
        remaining.unlink()
        del before[remaining]
    for name in ("", "../desk", "a/b", ".hidden"):
        with pytest.raises(InputError, match="cannot name a key"):
            write_key_pair(key, tmp_path, name)
    with pytest.raises(InputError, match="no folder"):
        write_key_pair(key, tmp_path / "absent", "desk")


def test_a_key_without_its_variable_writes_nothing(tmp_path, key, monkeypatch):
    monkeypatch.setenv("PHRASE", "")
    with pytest.raises(InputError, match="PHRASE is not set"):
        write_key_pair(key, tmp_path, "desk", passphrase_variable="PHRASE")
    assert list(tmp_path.iterdir()) == []


def test_keys_of_other_kinds(tmp_path, key, monkeypatch):
    other = generate_private_key(SECP256R1())
    private, public = tmp_path / "a.pem", tmp_path / "b.pem"
    private.touch(mode=0o600)
    private.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(InputError, match="another kind"):
        read_signing_key(private)
    with pytest.raises(InputError, match="not an Ed25519 public key"):
        read_public_key(public)
    with pytest.raises(InputError, match="private key, which nobody but the signer needs"):
        read_public_key(private)
    with pytest.raises(InputError, match="cannot be read"):
        read_public_key(tmp_path / "absent.pem")
    with pytest.raises(InputError, match="cannot be read"):
        read_signing_key(tmp_path / "absent.pem")
    private.write_text("no key")
    with pytest.raises(InputError, match="not a PEM file"):
        read_signing_key(private)
    with pytest.raises(InputError, match="32 bytes, not 3"):
        PublicKey(b"abc")


def secrets_of(key):
    raw = key._private.private_bytes_raw()
    body = "".join(key.private_pem().decode().splitlines()[1:-1])
    return [raw.hex(), base64.b64encode(raw).decode(), body, repr(raw)[2:-1]]


def test_a_private_key_is_never_shown(tmp_path, key, monkeypatch):
    """In whole or in part: in representations, and in errors and what they came from."""
    shown = [repr(key), str(key), f"{[key]}", repr({"key": key})]
    good = key.private_pem().decode()
    secret = base64.b64encode(key._private.private_bytes_raw()).decode()
    for value in (good[:-40], good.replace("MC4", "MC5"), secret[:-2], secret + "AAAA", "é" + secret):
        monkeypatch.setenv("KEY", value)
        with pytest.raises(InputError) as caught:
            signing_key_from_environment("KEY")
        shown += traceback.format_exception(caught.value)
    monkeypatch.setenv("PHRASE", "correct horse")
    monkeypatch.setenv("WRONG", "battery staple")
    private, _ = write_key_pair(key, tmp_path, "desk", passphrase_variable="PHRASE")
    for variable in (None, "WRONG"):
        with pytest.raises(InputError) as caught:
            read_signing_key(private, passphrase_variable=variable)
        assert caught.value.__suppress_context__
        shown += traceback.format_exception(caught.value)
    text = "".join(shown)
    assert key.public.id in text
    for hidden in [*secrets_of(key), secret[:12], "correct horse", "battery staple"]:
        assert hidden not in text


def test_a_private_key_is_not_pickled(key):
    with pytest.raises(TypeError, match="cannot pickle"):
        pickle.dumps(key)


def test_an_id_is_the_hash_of_the_public_key():
    """Computed by another program: printf 3d40… | xxd -r -p | sha256sum."""
    assert PublicKey(PUBLIC).id == "39f713d0a644253f04529421b9f51b9b08979d08295959c4f3990ee617f5139f"
