"""Envelopes against the DSSE specification: its example, and its encoding written a second time."""

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicNumbers
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from memsinks.certificate.envelope import Envelope, pae, seal
from memsinks.certificate.keys import SigningKey
from memsinks.errors import InputError

# protocol.md of github.com/secure-systems-lab/dsse, "Test Vectors".
EXAMPLE = b"""{"payload": "aGVsbG8gd29ybGQ=",
 "payloadType": "http://example.com/HelloWorld",
 "signatures": [{"sig": "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="}]}"""
X = 46950820868899156662930047687818585632848591499744589407958293238635476079160
Y = 5640078356564379163099075877009565129882514886557779369047442380624545832820


def pae_oracle(kind, payload):
    """The formula of the specification, term by term."""
    space, parts = bytes([0x20]), bytes([0x44, 0x53, 0x53, 0x45, 0x76, 0x31])
    for part in (kind.encode("utf-8"), payload):
        parts += space + str(len(part)).encode("ascii") + space + part
    return parts


def test_the_example_of_the_specification():
    envelope = Envelope.from_bytes(EXAMPLE)
    assert envelope.payload == b"hello world"
    assert envelope.signed == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    value = envelope.signatures[0].value
    r, s = (int.from_bytes(half, "big") for half in (value[:32], value[32:]))
    public = EllipticCurvePublicNumbers(X, Y, SECP256R1()).public_key()
    public.verify(encode_dss_signature(r, s), envelope.signed, ECDSA(SHA256()))


@given(st.text(), st.binary())
def test_the_encoding_is_that_of_the_formula(kind, payload):
    assert pae(kind, payload) == pae_oracle(kind, payload)


@given(st.binary(max_size=200), st.integers(1, 3))
def test_what_is_sealed_is_read_back_and_signed(payload, count):
    keys = [SigningKey.generate() for _ in range(count)]
    content = json.loads(seal(payload, keys).as_bytes())
    assert content.keys() == {"payload", "payloadType", "signatures"}
    for key, signature in zip(keys, content["signatures"], strict=True):
        assert signature["keyid"] == key.public.id
        message = pae_oracle("application/vnd.in-toto+json", base64.b64decode(content["payload"]))
        Ed25519PublicKey.from_public_bytes(key.public.raw).verify(base64.b64decode(signature["sig"]), message)
    assert Envelope.from_bytes(seal(payload, keys).as_bytes()) == seal(payload, keys)


def test_url_safe_base64_is_taken_too():
    envelope = seal(bytes([0xFB, 0xFF, 0xFE]), [SigningKey.generate()])
    content = json.loads(envelope.as_bytes())
    assert content["payload"] == "+//+"
    content["payload"] = "-__-"
    content["signatures"][0]["sig"] = content["signatures"][0]["sig"].replace("+", "-").replace("/", "_")
    assert Envelope.from_bytes(json.dumps(content).encode()) == envelope


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"payload": 1}, "payload must be a string"),
        ({"payload": "a==="}, "payload is not base64"),
        ({"payload": "aGVsbG8=\n"}, "payload is not base64"),
        ({"payload": "aGVsbG9="}, "bits are set that hold no data"),
        ({"payloadType": None}, "payloadType"),
        ({"payloadType": "\ud800"}, "payloadType"),
        ({"signatures": []}, "at least one"),
        ({"signatures": "none"}, "at least one"),
        ({"signatures": [{"keyid": "a"}]}, "sig must be a string"),
    ],
)
def test_what_is_no_envelope(change, words):
    content = json.loads(EXAMPLE) | change
    with pytest.raises(InputError, match=words):
        Envelope.from_bytes(json.dumps(content).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"payload": NaN}',
        EXAMPLE.replace(b'"payload":', b'"payload": "eA==", "payload":'),
    ],
    ids=["empty", "list", "no UTF-8", "deep", "NaN", "key twice"],
)
def test_json_that_cannot_be_used(data):
    with pytest.raises(InputError, match="JSON"):
        Envelope.from_bytes(data)


def test_each_key_signs_once(key):
    for keys, words in (([], "at least one"), ([key, key], "twice")):
        with pytest.raises(InputError, match=words):
            seal(b"", keys)
