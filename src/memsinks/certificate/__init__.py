"""Signed certificates of removal: write one for a delivered directory, and check one offline."""

from memsinks.certificate.certify import certify
from memsinks.certificate.check import Checked, Problem, SignatureStatus, check
from memsinks.certificate.files import digests
from memsinks.certificate.keys import (
    PublicKey,
    SigningKey,
    read_public_key,
    read_signing_key,
    signing_key_from_environment,
    write_key_pair,
)
from memsinks.certificate.predicate import DOES_NOT_CLAIM, LedgerAnchor, Predicate, Reason, Request, VerificationCheck
from memsinks.certificate.statement import PREDICATE_TYPE, Statement
from memsinks.certificate.trust import TrustedKey, TrustedKeys, retire, revoke, trust
from memsinks.certificate.trust_file import read_trust_file, read_trusted_keys, write_trust_file

__all__ = [
    "DOES_NOT_CLAIM",
    "PREDICATE_TYPE",
    "Checked",
    "LedgerAnchor",
    "Predicate",
    "Problem",
    "PublicKey",
    "Reason",
    "Request",
    "SignatureStatus",
    "SigningKey",
    "Statement",
    "TrustedKey",
    "TrustedKeys",
    "VerificationCheck",
    "certify",
    "check",
    "digests",
    "read_public_key",
    "read_signing_key",
    "read_trust_file",
    "read_trusted_keys",
    "retire",
    "revoke",
    "signing_key_from_environment",
    "trust",
    "write_key_pair",
    "write_trust_file",
]
