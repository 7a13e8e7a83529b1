"""A delivered directory, keys, and a predicate about it."""

from datetime import UTC, datetime

import pytest

from memsinks.certificate import (
    LedgerAnchor,
    Predicate,
    Reason,
    Request,
    SigningKey,
    TrustedKey,
    VerificationCheck,
    certify,
    digests,
)

TIME = datetime(2026, 3, 1, 12, tzinfo=UTC)
REASON = Reason(kind="shared_rows_kept", count=3, detail="three rows that survivors use too")


def predicate(after, **changed):
    values = {
        "removal": "r-17",
        "time": TIME,
        "request": Request(kinds={"source": 1}, ids=(2**64 - 1, 5), target="all text of publisher A"),
        "policies": {"shared rows": "keep"},
        "before": {"model.safetensors": "0" * 64},
        "after": after,
        "rows_removed": {0: 12, 10: 4, 2: 7},
        "verification": (
            VerificationCheck(name="gap closure", verdict="pass", figure=1, threshold=0.9, interval=(0.95, 1.02)),
            VerificationCheck(name="extraction", verdict="inconclusive"),
        ),
        "evidence": {"plan.json": "a" * 64},
        "ledger": LedgerAnchor(seq=3, hash="b" * 64),
        "corpus_sha256": "c" * 64,
        "code_version": "0.1.0",
        "complete": False,
        "reasons": (REASON,),
    }
    return Predicate(**values | changed)


def trusted(key, **times):
    return TrustedKey(public=key.public, name="desk", **times)


@pytest.fixture
def key():
    return SigningKey.generate()


@pytest.fixture
def delivered(tmp_path):
    folder = tmp_path / "delivered"
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer" / "tokenizer.json").write_text("[]")
    return folder


@pytest.fixture
def certificate(tmp_path, delivered, key):
    file = tmp_path / "certificate.json"
    certify(delivered, predicate(digests(delivered)), [key], file)
    return file
