"""Checks of certificates: what was altered, who signed, and when."""

import base64
import json
import os
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memsinks.certificate import SigningKey, certify, check, digests
from memsinks.certificate.encoding import canonical
from memsinks.certificate.envelope import seal
from memsinks.errors import InputError
from tests.unit.certificate.conftest import TIME, predicate, trusted

SECOND = timedelta(seconds=1)


def kinds(checked):
    assert checked.valid == (not checked.problems)
    return sorted({problem.kind for problem in checked.problems})


def verdicts(checked):
    return [status.verdict for status in checked.signatures]


def test_round_trip(certificate, delivered, key):
    checked = check(certificate, delivered, [trusted(key)])
    assert checked.valid
    assert verdicts(checked) == ["accepted"]
    assert checked.statement.subject == digests(delivered)
    assert checked.statement.predicate == predicate(digests(delivered))


def test_a_delivered_directory_may_be_moved_and_named_by_a_link(certificate, delivered, key, tmp_path):
    delivered.rename(tmp_path / "moved")
    (tmp_path / "link").symlink_to("moved")
    assert check(certificate, tmp_path / "link", [trusted(key)]).valid


def fields_of(envelope):
    """Payload and signatures of an envelope as lists of bytes to change, and the way back."""
    parts = [base64.b64decode(envelope["payload"])]
    return parts + [base64.b64decode(signature["sig"]) for signature in envelope["signatures"]]


@pytest.fixture(scope="module")
def signed_twice(tmp_path_factory):
    root = tmp_path_factory.mktemp("twice")
    folder = root / "delivered"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    keys = [SigningKey.generate(), SigningKey.generate()]
    certify(folder, predicate(digests(folder)), keys, root / "certificate.json")
    return root, folder, [trusted(key) for key in keys], (root / "certificate.json").read_bytes()


@settings(max_examples=300)
@given(st.data())
def test_every_altered_byte_of_payload_or_signature_is_refused(signed_twice, data):
    root, folder, keys, certificate = signed_twice
    envelope = json.loads(certificate)
    parts = fields_of(envelope)
    which = data.draw(st.integers(0, len(parts) - 1))
    place = data.draw(st.integers(0, len(parts[which]) - 1))
    bits = data.draw(st.integers(1, 255))
    changed = bytearray(parts[which])
    changed[place] ^= bits
    text = base64.b64encode(changed).decode()
    if which == 0:
        envelope["payload"] = text
    else:
        envelope["signatures"][which - 1]["sig"] = text
    (root / "altered.json").write_text(json.dumps(envelope))
    checked = check(root / "altered.json", folder, keys)
    assert "signature" in kinds(checked)
    assert (checked.statement is None) == (which == 0)
    # A byte of the signature counts for whoever trusts that key alone, too.
    if which:
        assert not check(root / "altered.json", folder, [keys[which - 1]]).valid


@settings(max_examples=300)
@given(st.data())
def test_an_altered_character_of_the_file_is_refused_or_changes_nothing(signed_twice, data):
    root, folder, keys, certificate = signed_twice
    place = data.draw(st.integers(0, len(certificate) - 1))
    changed = bytearray(certificate)
    changed[place] ^= data.draw(st.integers(1, 255))
    (root / "altered.json").write_bytes(changed)
    checked = check(root / "altered.json", folder, keys)
    if checked.valid:
        # Blanks, key IDs (which are hints), and the other spelling of base64.
        assert fields_of(json.loads(certificate)) == [
            base64.b64decode(text.replace("-", "+").replace("_", "/"))
            for envelope in [json.loads(changed)]
            for text in [envelope["payload"], *(s["sig"] for s in envelope["signatures"])]
        ]


@pytest.mark.parametrize(
    ("tamper", "kind", "name"),
    [
        (lambda d: (d / "config.json").unlink(), "missing", "config.json"),
        (lambda d: (d / "model.safetensors").write_bytes(b"Weights"), "altered", "model.safetensors"),
        (lambda d: (d / "tokenizer" / "tokenizer.json").write_text("[] "), "altered", "tokenizer/tokenizer.json"),
        (lambda d: (d / "sinks.safetensors").touch(), "extra", "sinks.safetensors"),
        (lambda d: (d / "tokenizer" / "more").touch(), "extra", "tokenizer/more"),
        (lambda d: (d / "link").symlink_to("config.json"), "not_a_file", "link"),
        (lambda d: os.mkfifo(d / "pipe"), "not_a_file", "pipe"),
        (lambda d: ((d / "config.json").unlink(), (d / "config.json").mkdir()), "missing", "config.json"),
    ],
    ids=["missing", "altered", "altered deep", "extra", "extra deep", "link", "pipe", "folder in place"],
)
def test_each_change_of_the_directory_is_named(certificate, delivered, key, tamper, kind, name):
    tamper(delivered)
    checked = check(certificate, delivered, [trusted(key)])
    assert [problem.kind for problem in checked.problems] == [kind]
    assert checked.problems[0].message.startswith(f"{name}: ")


def test_a_link_to_the_certified_content_is_no_file(certificate, delivered, key, tmp_path):
    (delivered / "config.json").rename(tmp_path / "elsewhere")
    (delivered / "config.json").symlink_to(tmp_path / "elsewhere")
    assert kinds(check(certificate, delivered, [trusted(key)])) == ["not_a_file"]


def test_swapped_files_are_noticed(certificate, delivered, key):
    (delivered / "config.json").rename(delivered / "x")
    (delivered / "model.safetensors").rename(delivered / "config.json")
    (delivered / "x").rename(delivered / "model.safetensors")
    checked = check(certificate, delivered, [trusted(key)])
    assert [problem.kind for problem in checked.problems] == ["altered", "altered"]


def test_hidden_files_and_the_certificate_itself_are_passed_over(delivered, key):
    inside = delivered / "certificate.json"
    certify(delivered, predicate(digests(delivered)), [key], inside)
    (delivered / ".cache").mkdir()
    (delivered / ".cache" / "a").touch()
    assert check(inside, delivered, [trusted(key)]).valid
    (delivered / "copy.json").write_bytes(inside.read_bytes())
    assert kinds(check(inside, delivered, [trusted(key)])) == ["extra"]


def test_a_key_that_is_not_trusted(certificate, delivered, key):
    checked = check(certificate, delivered, [trusted(SigningKey.generate())])
    assert kinds(checked) == ["untrusted"]
    assert key.public.id in checked.problems[0].message
    # Nothing that it says is passed on.
    assert checked.statement is None
    with pytest.raises(InputError, match="no trusted key to check against"):
        check(certificate, delivered, [])


def test_the_key_id_beside_a_signature_decides_nothing(certificate, delivered, key):
    other = SigningKey.generate()
    envelope = json.loads(certificate.read_text())
    for hint in ("", "0" * 64, other.public.id):
        envelope["signatures"][0]["keyid"] = hint
        certificate.write_text(json.dumps(envelope))
        assert check(certificate, delivered, [trusted(other), trusted(key)]).valid
    # A stranger's signature under the name of a trusted key.
    envelope["signatures"][0] = {
        "keyid": key.public.id,
        "sig": base64.b64encode(other.sign(b"DSSEv1 ...")).decode(),
    }
    certificate.write_text(json.dumps(envelope))
    assert kinds(check(certificate, delivered, [trusted(key)])) == ["signature", "untrusted"]


def test_rotation_with_two_signatures(signed_twice):
    root, folder, (old, new), _ = signed_twice
    file = root / "certificate.json"
    assert verdicts(check(file, folder, [old])) == ["accepted", "unknown"]
    assert verdicts(check(file, folder, [new])) == ["unknown", "accepted"]
    assert verdicts(check(file, folder, [new, old])) == ["accepted", "accepted"]
    assert all(check(file, folder, keys).valid for keys in ([old], [new], [old, new]))


def limited(signed_twice, **times):
    """Checks with a limited old key: alone, and beside a new one without limits."""
    root, folder, (old, new), _ = signed_twice
    file, old = root / "certificate.json", replace(old, **times)
    return check(file, folder, [old]), check(file, folder, [old, new])


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ({"not_after": TIME - SECOND}, "retired at 2026-03-01T11:59:59Z"),
        ({"revoked_at": TIME}, "revoked at 2026-03-01T12:00:00Z"),
        ({"revoked_at": TIME - SECOND}, "revoked"),
        ({"not_before": TIME + SECOND}, "valid only from 2026-03-01T12:00:01Z"),
    ],
)
def test_a_key_out_of_its_time_does_not_count(signed_twice, times, words):
    alone, beside = limited(signed_twice, **times)
    assert kinds(alone) == ["key"]
    assert words in alone.problems[0].message
    assert verdicts(alone) == ["not_valid", "unknown"]
    assert beside.valid
    assert verdicts(beside) == ["not_valid", "accepted"]


@pytest.mark.parametrize("times", [{"not_after": TIME}, {"not_after": TIME + SECOND}, {"not_before": TIME}])
def test_what_a_retired_key_signed_before_stays_valid(signed_twice, times):
    alone, beside = limited(signed_twice, **times)
    assert alone.valid
    assert beside.valid
    assert alone.signatures[0].note == ""


def test_what_a_revoked_key_signed_before_stays_valid_with_a_warning(signed_twice):
    alone, _ = limited(signed_twice, revoked_at=TIME + SECOND)
    assert alone.valid
    assert "revoked at 2026-03-01T12:00:01Z" in alone.signatures[0].note
    assert "the signer's word" in alone.signatures[0].note


def signed(file, key, change):
    """Sign the content of a certificate again, changed."""
    content = json.loads(base64.b64decode(json.loads(file.read_text())["payload"]))
    change(content)
    file.write_bytes(seal(canonical(content), [key]).as_bytes())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(_type="https://in-toto.io/Statement/v0.1"), "not an in-toto statement"),
        (lambda c: c.update(predicateType="https://slsa.dev/provenance/v1"), "slsa.dev/provenance/v1"),
        (lambda c: c.update(predicateType="urn:memsinks:removal:v2"), "urn:memsinks:removal:v2"),
        (lambda c: c["predicate"].update(format_version=2), "use a newer memsinks"),
        (lambda c: c["predicate"].update(complete=True), "cannot be certified as complete"),
        (lambda c: c["predicate"].pop("time"), "time"),
        (lambda c: c.pop("predicate"), "needs a list as its subject and an object"),
        (lambda c: c.update(subject={}), "needs a list"),
        (lambda c: c.update(subject=[]), "no files"),
        (lambda c: c["subject"].append(c["subject"][0]), "twice"),
        (lambda c: c["subject"][0].pop("name"), "needs a name"),
        (lambda c: c["subject"][0].update(digest={"sha512": "0" * 128}), "needs a name and a sha256"),
        (lambda c: c["subject"][0].update(digest={"sha256": "0" * 63}), "64 hexadecimal"),
        (lambda c: c["subject"][1].update(digest={"sha256": "0" * 64}), "another content"),
    ],
)
def test_statements_that_cannot_be_used(certificate, delivered, key, change, words):
    signed(certificate, key, change)
    checked = check(certificate, delivered, [trusted(key)])
    assert kinds(checked) == ["statement"]
    assert words in checked.problems[0].message
    assert verdicts(checked) == ["unread"]


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "a/../../secret", "a//b", "", ".", ".hidden", "a/.b", "a\\b", "a\nb", "a/"]
)
def test_names_do_not_lead_out_of_the_directory(certificate, delivered, key, name):
    signed(certificate, key, lambda c: c["subject"].append({"name": name, "digest": {"sha256": "0" * 64}}))
    checked = check(certificate, delivered, [trusted(key)])
    assert kinds(checked) == ["statement"]
    assert "not the name of a file" in checked.problems[0].message


def test_fields_of_later_versions_are_passed_over(certificate, delivered, key):
    def extended(content):
        content["later"] = 1
        content["subject"][0] |= {"mediaType": "x", "digest": content["subject"][0]["digest"] | {"sha512": "0"}}
        content["predicate"]["later"] = {"a": [1]}

    signed(certificate, key, extended)
    assert check(certificate, delivered, [trusted(key)]).valid


def test_another_payload_type(certificate, delivered, key):
    payload = base64.b64decode(json.loads(certificate.read_text())["payload"])
    certificate.write_bytes(seal(payload, [key], payload_type="application/json").as_bytes())
    assert kinds(check(certificate, delivered, [trusted(key)])) == ["payload_type"]
    # The type is signed: it cannot be put right afterwards.
    envelope = json.loads(certificate.read_text()) | {"payloadType": "application/vnd.in-toto+json"}
    certificate.write_text(json.dumps(envelope))
    assert kinds(check(certificate, delivered, [trusted(key)])) == ["signature", "untrusted"]


def test_files_that_are_no_certificate(certificate, delivered, key, tmp_path):
    certificate.write_bytes(certificate.read_bytes()[:-10])
    assert kinds(check(certificate, delivered, [trusted(key)])) == ["envelope"]
    with pytest.raises(InputError, match="cannot be read"):
        check(tmp_path / "absent.json", delivered, [trusted(key)])
    with pytest.raises(InputError, match="not a folder"):
        check(certificate, tmp_path / "absent", [trusted(key)])
