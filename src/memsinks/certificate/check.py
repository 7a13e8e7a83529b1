"""Check a certificate against a delivered directory, offline."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from memsinks.certificate.encoding import format_time
from memsinks.certificate.envelope import PAYLOAD_TYPE, Envelope, Signature
from memsinks.certificate.files import digest, list_files
from memsinks.certificate.statement import Statement
from memsinks.certificate.trust import TrustedKey
from memsinks.errors import InputError

ProblemKind = Literal[
    "envelope",
    "payload_type",
    "signature",
    "untrusted",
    "key",
    "statement",
    "missing",
    "altered",
    "extra",
    "not_a_file",
]


@dataclass(frozen=True)
class Problem:
    """Why a certificate does not hold.

    Attributes:
        kind: ``envelope`` (the file is none), ``payload_type``, ``signature`` (one that is named as a trusted key's is
            not), ``untrusted`` (no trusted key signed), ``key`` (none that signed counts at that time), ``statement``
            (not one of a removal that can be read), ``missing``, ``altered`` and ``extra`` (a file of the directory),
            or ``not_a_file`` (a symbolic link or the like).
        message: what is wrong.
    """

    kind: ProblemKind
    message: str


@dataclass(frozen=True)
class SignatureStatus:
    """What one signature is worth.

    Attributes:
        key_id: of the key that made it; as the envelope states it, if that is no trusted key.
        name: what the checker calls the key, if it is trusted.
        verdict: ``accepted``; ``bad`` (altered); ``unknown`` (of no trusted key); ``not_valid`` (the key does not count
            at the time that the certificate states); ``unread`` (good, but the statement states no time).
        note: an explanation, or nothing.
    """

    key_id: str
    name: str | None
    verdict: Literal["accepted", "bad", "unknown", "not_valid", "unread"]
    note: str = ""


@dataclass(frozen=True)
class Checked:
    """The outcome of a check.

    Attributes:
        problems: why the certificate does not hold; none if it does.
        signatures: what each signature is worth.
        statement: what the certificate says, if a trusted key signed it and it can be read.
    """

    problems: tuple[Problem, ...]
    signatures: tuple[SignatureStatus, ...] = ()
    statement: Statement | None = None

    @property
    def valid(self) -> bool:
        """Whether a trusted key signed the certificate, and the directory is the one that it is about."""
        return not self.problems


def check(certificate: Path, directory: Path, trusted_keys: Sequence[TrustedKey]) -> Checked:
    """Check who signed a certificate, and compare a directory with it.

    The certificate itself, and what has a name that begins with a dot, are left out of the comparison. One accepted
    signature is enough, but a trusted key's signature that was altered is a problem beside an accepted one too.

    Args:
        certificate: the file.
        directory: what was delivered.
        trusted_keys: the keys to accept.

    Raises:
        InputError: the certificate, the directory or something in it cannot be read, or there is no key to trust.
    """
    if not directory.is_dir():
        raise InputError(f"{directory}: not a folder; give the one that was delivered")
    if not trusted_keys:
        raise InputError("there is no trusted key to check against; add the signer's with memsinks keys trust")
    try:
        data = certificate.read_bytes()
    except OSError as error:
        raise InputError(f"{certificate}: cannot be read ({error.strerror})") from error
    try:
        envelope = Envelope.from_bytes(data)
    except InputError as error:
        return _refused("envelope", f"{certificate.name} is not a signed envelope (DSSE): {error}")
    if envelope.payload_type != PAYLOAD_TYPE:
        return _refused("payload_type", f"the payload is of type {envelope.payload_type!r}, not {PAYLOAD_TYPE!r}")
    matched = [(s, _signer(s, envelope.signed, trusted_keys)) for s in envelope.signatures]
    try:
        # Nothing that is not signed by a trusted key is read any further.
        statement = Statement.from_payload(envelope.payload) if any(key for _, key in matched) else None
        unreadable: list[Problem] = []
    except InputError as error:
        statement, unreadable = None, [Problem("statement", str(error))]
    signatures = tuple(_status(s, key, statement, trusted_keys) for s, key in matched)
    compared = () if statement is None else _compared(statement, directory, certificate)
    return Checked((*_objections(signatures), *unreadable, *compared), signatures, statement)


def _refused(kind: ProblemKind, message: str) -> Checked:
    return Checked((Problem(kind, message),))


def _signer(signature: Signature, signed: bytes, keys: Sequence[TrustedKey]) -> TrustedKey | None:
    """The key that made it. The ID that stands beside it is not signed, so it only says which key to try first."""
    by_id = sorted(keys, key=lambda key: key.public.id != signature.key_id)
    return next((key for key in by_id if key.public.verifies(signature.value, signed)), None)


def _status(
    signature: Signature, key: TrustedKey | None, statement: Statement | None, keys: Sequence[TrustedKey]
) -> SignatureStatus:
    if key is None:
        named = next((key for key in keys if key.public.id == signature.key_id), None)
        if named is not None:
            note = "it does not fit the certificate: one of them was altered"
            return SignatureStatus(signature.key_id, named.name, "bad", note)
        return SignatureStatus(signature.key_id, None, "unknown", "the key is not among the trusted ones")
    if statement is None:
        return SignatureStatus(key.public.id, key.name, "unread")
    time = statement.predicate.time
    objection = key.objection(time)
    if objection is not None:
        return SignatureStatus(
            key.public.id, key.name, "not_valid", f"the key {objection}; the certificate is of {format_time(time)}"
        )
    note = ""
    if key.revoked_at is not None:
        note = (
            f"the key was revoked at {format_time(key.revoked_at)}; that the certificate is older is the signer's "
            "word, and whoever has the key can give it too: look for its ledger entry or a dated copy"
        )
    return SignatureStatus(key.public.id, key.name, "accepted", note)


def _objections(signatures: Sequence[SignatureStatus]) -> Iterator[Problem]:
    for status in signatures:
        if status.verdict == "bad":
            yield Problem("signature", f"signature of {status.name} ({status.key_id}): {status.note}")
    if any(status.verdict in ("accepted", "unread") for status in signatures):
        return
    not_valid = [status for status in signatures if status.verdict == "not_valid"]
    for status in not_valid:
        yield Problem("key", f"signature of {status.name} ({status.key_id}): {status.note}")
    if not not_valid:
        ids = ", ".join(status.key_id for status in signatures)
        yield Problem("untrusted", f"no trusted key signed the certificate; it names the keys {ids}")


def _compared(statement: Statement, directory: Path, certificate: Path) -> Iterator[Problem]:
    files, refused = list_files(directory, besides=certificate)
    for name, reason in refused.items():
        yield Problem("not_a_file", f"{name}: {reason}")
    for name, expected in statement.subject.items():
        if name in files:
            if digest(files[name]) != expected:
                yield Problem("altered", f"{name}: its content is not the certified one")
        elif name not in refused:
            yield Problem("missing", f"{name}: certified, but not there")
    for name in files:
        if name not in statement.subject:
            yield Problem("extra", f"{name}: not among the certified files")
