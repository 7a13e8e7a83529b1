"""in-toto Statement v1: a predicate about files (github.com/in-toto/attestation, spec/v1/statement.md)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from memsinks.certificate.encoding import canonical, read_object
from memsinks.certificate.files import is_portable
from memsinks.certificate.predicate import Predicate
from memsinks.errors import InputError

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:memsinks:removal:v1"

_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Statement:
    """A predicate and the files that it is about.

    Attributes:
        subject: SHA-256 of every file of the delivered directory, by POSIX name.
        predicate: what is said about them.

    Raises:
        InputError: there are no files, or the predicate names files of the checkpoint after, or evidence, that differ
            from them.
    """

    subject: Mapping[str, str]
    predicate: Predicate

    def __post_init__(self) -> None:
        if not self.subject:
            raise InputError("there are no files to certify")
        for name, digest in self.predicate.after.items():
            if self.subject.get(name) != digest:
                state = "another content" if name in self.subject else "no such file"
                raise InputError(f"the predicate is about a checkpoint with {name} ({digest}), but there is {state}")
        for name, digest in self.predicate.evidence.items():
            if self.subject.get(name, digest) != digest:
                raise InputError(f"{name} differs from the evidence of that name ({digest})")

    def payload(self) -> bytes:
        """The statement as JSON; the same statement always gives the same bytes.

        Raises:
            InputError: a field of the predicate has a value that cannot be read back.
        """
        return canonical(
            {
                "_type": STATEMENT_TYPE,
                "subject": [{"name": name, "digest": {"sha256": self.subject[name]}} for name in sorted(self.subject)],
                "predicateType": PREDICATE_TYPE,
                "predicate": self.predicate.as_dict(),
            }
        )

    @classmethod
    def from_payload(cls, payload: bytes) -> "Statement":
        """Read a statement; fields that this version does not know are passed over.

        Raises:
            InputError: it is not a statement, or about something else than a removal, or malformed.
        """
        content = read_object(payload)
        if content.get("_type") != STATEMENT_TYPE:
            raise InputError(f"not an in-toto statement: its _type is {content.get('_type')!r}, not {STATEMENT_TYPE!r}")
        if content.get("predicateType") != PREDICATE_TYPE:
            raise InputError(
                f"the statement is of type {content.get('predicateType')!r}; a certificate of removal is of type "
                f"{PREDICATE_TYPE!r}"
            )
        subject, predicate = content.get("subject"), content.get("predicate")
        if not isinstance(subject, list) or not isinstance(predicate, dict):
            raise InputError("the statement needs a list as its subject and an object as its predicate")
        files: dict[str, str] = {}
        for entry in subject:
            name, digest = _subject(entry)
            if name in files:
                raise InputError(f"the subject names {name!r} twice")
            files[name] = digest
        return cls(files, Predicate.from_dict(predicate))


def _subject(entry: Any) -> tuple[str, str]:
    match entry:
        case {"name": str(name), "digest": {"sha256": str(digest)}} if _DIGEST.fullmatch(digest):
            pass
        case _:
            raise InputError("each subject needs a name and a sha256 of 64 hexadecimal digits")
    # The name becomes a path, so it must not lead out of the directory, or to a file that is not compared.
    if not is_portable(name) or any(not part or part.startswith(".") for part in name.split("/")):
        raise InputError(f"the subject {name!r} is not the name of a file that a certificate can cover")
    return name, digest
