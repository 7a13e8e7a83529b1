"""Write a certificate for a delivered directory."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from memsinks.certificate.envelope import seal
from memsinks.certificate.files import check_new, digests, write_whole
from memsinks.certificate.keys import SigningKey
from memsinks.certificate.predicate import DOES_NOT_CLAIM, Predicate
from memsinks.certificate.statement import Statement
from memsinks.errors import InputError


def certify(directory: Path, predicate: Predicate, keys: Sequence[SigningKey], output: Path) -> str:
    """Sign a statement about every file of a directory, and write it.

    Files and folders whose names begin with a dot are left out.

    Args:
        directory: what is delivered.
        predicate: what is said about it.
        keys: each signs; two of them while the old key makes way for a new one.
        output: the certificate; it may lie in the directory, and is then not part of what it certifies.

    Returns:
        SHA-256 of the certificate, as hexadecimal digits. The same files, predicate and keys give the same certificate.

    Raises:
        InputError: the directory holds something else than plain files and folders, or not the checkpoint of the
            predicate; the output exists or cannot be written; or there is no key.
    """
    check_new(output)
    if predicate.does_not_claim != DOES_NOT_CLAIM:
        raise InputError("does_not_claim is fixed: every certificate says the same there; leave it at its default")
    statement = Statement(digests(directory), predicate)
    certificate = seal(statement.payload(), keys).as_bytes()
    write_whole(output, certificate)
    return hashlib.sha256(certificate).hexdigest()
