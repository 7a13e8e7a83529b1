"""Rows to batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from memsinks.errors import InputError, SequenceIdError
from memsinks.ids import MAX_ID
from memsinks.stream.rows import IGNORED


@dataclass(frozen=True)
class Collator:
    """Pads rows on the right and stacks them.

    There is no ``attention_mask`` on purpose. Padding on the right needs none, because causal attention never looks
    right and padding is not predicted; and a 2-D mask, even of ones, makes transformers ignore ``position_ids`` as
    the mark of packed documents, so that these would see each other.

    Attributes:
        pad_token_id: input ID of padding.
        max_length: width of every batch, for compiled models; default the longest row of the batch.
        with_exposures: also return ``exposed_ids``.
        pad_to_multiple_of: widths are rounded up to this. Few different widths keep a CPU's kernel cache, and with it
            the memory of a long run, small.
    """

    pad_token_id: int
    max_length: int | None = None
    with_exposures: bool = False
    pad_to_multiple_of: int = 1

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Collate ``B`` rows, whose values are arrays, tensors or lists, into a batch of width ``T``.

        Returns:
            ``input_ids``, ``labels`` (padding -100), ``sequence_ids`` (padding 0), ``sink_mask`` (padding false), each
            ``[B, T]``; ``position_ids`` ``[B, T]`` if the rows have them, padding counted up from 0 as a document of
            its own; ``sink_frozen`` and ``shared_frozen`` ``[B, T]`` if a row has them, padding false; and
            ``exposed_ids`` ``[sum m]`` if wanted. Rows without ``labels`` are predicted whole; rows
            without ``sink_mask`` have all their sinks on, and those without a column of what is frozen have nothing
            frozen.

        Raises:
            SequenceIdError: a row has no ``sequence_ids``, or not one integer a token (unsigned, or its bit pattern).
            InputError: another column is missing, misshapen, or too long.
        """
        if not rows:
            raise InputError("cannot collate a batch of no rows")
        tokens = [_column(row, "input_ids", None) for row in rows]
        longest = max(map(len, tokens))
        width = -(-longest // self.pad_to_multiple_of) * self.pad_to_multiple_of
        width = width if self.max_length is None else self.max_length
        if longest > width:
            raise InputError(f"a row has {longest} tokens, more than max_length={width}; cut it, or raise max_length")
        labels = [_column(row, "labels", len(t)) if "labels" in row else t for row, t in zip(rows, tokens, strict=True)]
        ids = [_sequence_ids(row, len(t)) for row, t in zip(rows, tokens, strict=True)]
        masks = [
            _column(row, "sink_mask", len(t), np.bool_) if "sink_mask" in row else np.ones(len(t), dtype=np.bool_)
            for row, t in zip(rows, tokens, strict=True)
        ]
        batch = {
            "input_ids": _stack(tokens, width, self.pad_token_id),
            "labels": _stack(labels, width, IGNORED),
            "sequence_ids": _stack(ids, width, 0),
            "sink_mask": _stack(masks, width, False),
        }
        for name in ("sink_frozen", "shared_frozen"):
            if any(name in row for row in rows):
                frozen = [
                    _column(row, name, len(t), np.bool_) if name in row else np.zeros(len(t), np.bool_)
                    for row, t in zip(rows, tokens, strict=True)
                ]
                batch[name] = _stack(frozen, width, False)
        if any("position_ids" in row for row in rows):
            positions = [_column(row, "position_ids", len(t)) for row, t in zip(rows, tokens, strict=True)]
            batch["position_ids"] = torch.from_numpy(
                np.stack([np.concatenate([p, np.arange(width - len(p))]) for p in positions])
            )
        if self.with_exposures:
            batch["exposed_ids"] = torch.from_numpy(np.concatenate([_exposed(row) for row in rows]))
        return batch


def _stack(values: list[np.ndarray], width: int, padding: int | bool) -> torch.Tensor:
    out = np.full((len(values), width), padding, dtype=values[0].dtype)
    for row, value in zip(out, values, strict=True):
        row[: len(value)] = value
    return torch.from_numpy(out)


def _column(row: Mapping[str, Any], name: str, length: int | None, dtype: type = np.int64) -> np.ndarray:
    if row.get(name) is None:
        raise InputError(f"a row has no {name!r}; its columns are {', '.join(map(repr, row)) or 'none'}")
    value = np.asarray(row[name])
    kinds = "b" if dtype is np.bool_ else "iu"
    if value.ndim != 1 or (len(value) and value.dtype.kind not in kinds):
        raise InputError(f"{name!r} of a row must be one-dimensional {dtype.__name__}, not {value.dtype} {value.shape}")
    if length is not None and len(value) != length:
        raise InputError(f"{name!r} of a row has {len(value)} entries for {length} tokens")
    return value.astype(dtype)


def _sequence_ids(row: Mapping[str, Any], length: int | None, name: str = "sequence_ids") -> np.ndarray:
    if row.get(name) is None:
        raise SequenceIdError(
            f"a row has no {name!r}; its columns are {', '.join(map(repr, row)) or 'none'}. Make rows with "
            "memsinks.stream.build_stream, or give each token the ID of its document"
        )
    value = np.asarray(row[name])
    if value.dtype.kind in "fO" and _is_unsigned(row[name]):
        # NumPy makes a float array of a list that has IDs on both sides of 2**63.
        value = np.array(row[name], dtype=np.uint64)
    if value.ndim != 1 or (len(value) and value.dtype.kind not in "iu"):
        raise SequenceIdError(f"{name!r} must be one integer a token, not {value.dtype} of shape {value.shape}")
    if length is not None and len(value) != length:
        raise SequenceIdError(f"{name!r} has {len(value)} entries for {length} tokens")
    return value.view(np.int64) if value.dtype == np.uint64 else value.astype(np.int64)


def _is_unsigned(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(type(i) is int and 0 <= i <= MAX_ID for i in value)


def _exposed(row: Mapping[str, Any]) -> np.ndarray:
    return _sequence_ids(row, None, "exposed_ids")
