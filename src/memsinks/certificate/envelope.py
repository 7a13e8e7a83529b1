"""DSSE v1 envelopes: bytes of a stated type with signatures (github.com/secure-systems-lab/dsse, protocol.md)."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from memsinks.certificate.encoding import canonical, read_object
from memsinks.certificate.keys import SigningKey
from memsinks.errors import InputError

PAYLOAD_TYPE = "application/vnd.in-toto+json"

_STANDARD = str.maketrans("-_", "+/")


@dataclass(frozen=True)
class Signature:
    """One signature of an envelope.

    Attributes:
        key_id: says which key to try; it is not signed, so nothing may rest on it.
        value: the signature.
    """

    key_id: str
    value: bytes


@dataclass(frozen=True)
class Envelope:
    """A payload and its signatures, which have not been checked.

    Attributes:
        payload: what was signed, together with its type.
        payload_type: how to read it.
        signatures: at least one.
    """

    payload: bytes
    payload_type: str
    signatures: tuple[Signature, ...]

    @property
    def signed(self) -> bytes:
        """What the signatures sign."""
        return pae(self.payload_type, self.payload)

    def as_bytes(self) -> bytes:
        """The envelope as JSON; the same envelope always gives the same bytes."""
        content = {
            "payload": _encoded(self.payload),
            "payloadType": self.payload_type,
            "signatures": [{"keyid": s.key_id, "sig": _encoded(s.value)} for s in self.signatures],
        }
        return canonical(content) + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> "Envelope":
        """Read an envelope; fields that DSSE does not know are passed over.

        Raises:
            InputError: the data is not an envelope.
        """
        content = read_object(data)
        payload_type, signatures = content.get("payloadType"), content.get("signatures")
        if not isinstance(payload_type, str) or not payload_type.isascii():
            raise InputError("payloadType must be a media type or URI in ASCII")
        if not isinstance(signatures, list) or not signatures or not all(isinstance(s, dict) for s in signatures):
            raise InputError("signatures must be a list of at least one object")
        return cls(
            payload=_decoded(content.get("payload"), "payload"),
            payload_type=payload_type,
            signatures=tuple(Signature(str(s.get("keyid", "")), _decoded(s.get("sig"), "sig")) for s in signatures),
        )


def pae(payload_type: str, payload: bytes) -> bytes:
    """The pre-authentication encoding: type and payload with their lengths, so that no two pairs look alike."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def seal(payload: bytes, keys: Sequence[SigningKey], *, payload_type: str = PAYLOAD_TYPE) -> Envelope:
    """Sign a payload with each key.

    Raises:
        InputError: there is no key, or one is there twice.
    """
    ids = [key.public.id for key in keys]
    if not ids:
        raise InputError("no key to sign with; give at least one")
    if len(set(ids)) < len(ids):
        raise InputError("a key is there twice; each signs once")
    signed = pae(payload_type, payload)
    signatures = (Signature(key.public.id, key.sign(signed)) for key in keys)
    return Envelope(payload=payload, payload_type=payload_type, signatures=tuple(signatures))


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decoded(text: Any, name: str) -> bytes:
    """From standard or URL-safe base64, of which each string of bytes has one spelling."""
    if not isinstance(text, str):
        raise InputError(f"{name} must be a string")
    standard = text.translate(_STANDARD)
    try:
        data = base64.b64decode(standard, validate=True)
    except ValueError as error:
        raise InputError(f"{name} is not base64: {error}") from error
    if _encoded(data) != standard:
        raise InputError(f"{name} is not base64: bits are set that hold no data")
    return data
