"""Sequence IDs: stable unsigned 64-bit names for texts.

An ID depends only on what it names, never on the machine, the run, the order of shards or the number of workers.
Python and Arrow hold IDs as unsigned integers, tensors hold the same 64 bits as ``int64`` (torch has no arithmetic for
``uint64`` on CPU), and JSON and prose show 16 hexadecimal digits.

Each kind of ID is hashed under its own name, so a source called "a" and a group called "a" do not collide. Chance
collisions follow the birthday bound, see :func:`collision_probability`.
"""

import hashlib
import hmac
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from memsinks.errors import SequenceIdError

if TYPE_CHECKING:
    import torch

MAX_ID = 2**64 - 1


def content_id(token_ids: Sequence[int] | np.ndarray, *, key: bytes | None = None) -> int:
    """ID of a document from its token IDs (without begin and end markers).

    Args:
        token_ids: the document's tokens, each in ``[0, 2**32)``.
        key: secret for a keyed hash (HMAC-SHA256). Without one, anybody who has the text and the tokenizer can
            compute the ID and so confirm that the text was in training.
    """
    tokens = np.asarray(token_ids)
    if tokens.ndim != 1 or (
        len(tokens)
        and tokens.dtype != np.uint32
        and (tokens.dtype.kind not in "iu" or tokens.min() < 0 or tokens.max() >= 2**32)
    ):
        raise SequenceIdError("token IDs must be one list of integers in [0, 2**32)")
    return _digest("content", tokens.astype("<u4").tobytes(), key)


def source_id(source: str, *, key: bytes | None = None) -> int:
    """ID shared by all documents of one source."""
    return _digest("source", source.encode(), key)


def group_id(text_hash: bytes, *, key: bytes | None = None) -> int:
    """ID of a group of documents that belong together, from the hash of its representative's normalised text."""
    return _digest("group", text_hash, key)


def column_id(value: Any, *, key: bytes | None = None) -> int:
    """ID from the value of a corpus column: integers are taken as they are, strings are hashed.

    Raises:
        SequenceIdError: the value is neither a string nor an integer in ``[0, 2**64)``.
    """
    if isinstance(value, str):
        return _digest("column", value.encode(), key)
    return check_id(value)


def check_id(value: Any) -> int:
    """Return ``value`` as a Python integer, or raise :class:`SequenceIdError` unless it is in ``[0, 2**64)``."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise SequenceIdError(f"a sequence ID must be an integer in [0, 2**64), not {value!r}")
    if not 0 <= value <= MAX_ID:
        raise SequenceIdError(f"sequence ID {value} is outside [0, 2**64)")
    return int(value)


def format_id(value: int) -> str:
    """16 hexadecimal digits."""
    return f"{check_id(value):016x}"


def parse_id(text: str) -> int:
    """Read what :func:`format_id` wrote."""
    if len(text) != 16 or not all(c in "0123456789abcdef" for c in text):
        raise SequenceIdError(f"{text!r} is not a sequence ID: expected 16 hexadecimal digits (0-9, a-f)")
    return int(text, 16)


def to_tensor(ids: Iterable[int] | np.ndarray) -> "torch.Tensor":
    """IDs as an ``int64`` tensor that holds the same 64 bits; numpy arrays keep their shape."""
    import torch

    if isinstance(ids, np.ndarray) and ids.dtype == np.uint64:
        return torch.from_numpy(ids.view(np.int64).copy())
    return torch.from_numpy(np.array([check_id(i) for i in ids], dtype=np.uint64).view(np.int64))


def from_tensor(ids: "torch.Tensor") -> np.ndarray:
    """The inverse of :func:`to_tensor`: a ``uint64`` array of the tensor's shape."""
    return ids.detach().cpu().contiguous().numpy().view(np.uint64)


def collision_probability(count: int) -> float:
    """Chance that ``count`` different texts do not all get different 64-bit IDs (birthday bound)."""
    return -math.expm1(-count * (count - 1) / 2**65)


def _digest(kind: str, message: bytes, key: bytes | None) -> int:
    framed = b"memsinks/1/" + kind.encode() + b"\0" + message
    digest = hashlib.sha256(framed).digest() if key is None else hmac.new(key, framed, hashlib.sha256).digest()
    return int.from_bytes(digest[:8], "little")


PLACEBO_ID = _digest("placebo", b"", None)
"""The fixed ID whose sinks the placebo mode switches on; no text hashes to it but by a 2^-64 chance."""
