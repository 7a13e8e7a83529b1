"""The corpus card: what a corpus holds, on one page, as JSON and as Markdown."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from memsinks import ids
from memsinks.corpus.readers import GOVERNANCE

LANGUAGES = ("language", "lang")
"""Metadata columns that are taken to name the language."""
SHOWN = 20
"""Rows of a table in the Markdown; the JSON has all of them."""
_NONE = "(none)"


def card(
    folder: Path,
    content: dict[str, Any],
    groups: pa.Table,
    sources: Sequence[str | None],
    sizes: np.ndarray,
    validation: np.ndarray,
) -> dict[str, Any]:
    """The card of a corpus.

    Args:
        folder: with the shards.
        content: of the manifest.
        groups: of :data:`memsinks.corpus.stages.group.GROUPS`.
        sources: of each document.
        sizes: ``int64 [documents]``, bytes of each text.
        validation: ``bool [documents]``.
    """
    by_source: dict[str | None, int] = defaultdict(int)
    for source, size in zip(sources, sizes.tolist(), strict=True):
        by_source[source] += size
    columns = {name: _column(folder, content["shards"], name) for name in content["metadata"]}
    language = next((name for name in LANGUAGES if name in columns), None)
    counted = [name for name in GOVERNANCE if name in columns and name != "date"]
    return {
        "format": "memsinks-corpus-card",
        "format_version": 1,
        "documents": len(sources),
        "bytes": int(sizes.sum()),
        "tokens": sum(split["tokens"] for split in content["splits"].values()),
        "splits": content["splits"],
        "identity": content["config"]["identity"],
        "sources": [row | {"bytes": by_source[row["source"]]} for row in content["sources"]],
        **({} if language is None else {"languages": _counts(columns[language])}),
        **{name: _counts(columns[name]) for name in counted},
        **({"date": _dates(columns["date"])} if "date" in columns else {}),
        "groups": _groups(groups, sources, validation),
        "rejected": content["rejected"],
        "inputs": content["inputs"],
    }


def card_text(summary: dict[str, Any]) -> str:
    """The card as Markdown."""
    splits = summary["splits"]
    groups = summary["groups"]
    lines = [
        "# Corpus card",
        "",
        f"{summary['documents']:,} documents, {summary['bytes']:,} bytes of text, {summary['tokens']:,} tokens; "
        f"{splits['validation']['documents']:,} documents ({splits['validation']['tokens']:,} tokens) are held out. "
        f"Sequence IDs are by {summary['identity']}.",
        "",
    ]
    if summary["rejected"]:
        lines += [f"**{summary['rejected']:,} rows were rejected**; `rejects.jsonl` has each with its reason.", ""]
    header = ["source", "documents", "held out", "tokens", "bytes"]
    largest = sorted(summary["sources"], key=lambda row: (-row["tokens"], row["source"] or ""))
    rows = [
        [_shown(row["source"]), *(f"{row[k]:,}" for k in ("documents", "validation_documents", "tokens", "bytes"))]
        for row in largest[:SHOWN]
    ]
    lines += ["## Sources", "", *_table(header, rows), *_more(len(largest)), ""]
    for title, name in (
        ("Languages", "languages"),
        ("Licences", "licence"),
        ("Contracts", "contract"),
        ("Deletion terms", "deletion_terms"),
    ):
        if name in summary:
            counts = list(summary[name].items())
            shown = [[_shown(value), f"{count:,}"] for value, count in counts[:SHOWN]]
            lines += [f"## {title}", "", *_table(["", "documents"], shown), *_more(len(counts)), ""]
    if "date" in summary:
        dates = summary["date"]
        lines += ["## Dates", "", f"{dates['first']} to {dates['last']}; {dates['missing']:,} documents have none.", ""]
    lines += [
        "## Groups",
        "",
        f"{groups['copies']:,} copies, {groups['near']:,} near-duplicates and {groups['template']:,} documents that "
        f"share most of their words with another, in {groups['groups']:,} groups; {groups['alone']:,} documents are "
        f"like no other. {groups['held_out_like_training']:,} held-out documents are in a group with training text.",
        "",
    ]
    if spanning := groups["spanning_sources"]:
        rows = [
            [row["group_id"], row["representative"], f"{row['documents']:,}", ", ".join(map(_shown, row["sources"]))]
            for row in spanning[:SHOWN]
        ]
        lines += [
            f"**{len(spanning):,} groups span sources**: what is removed with one source, another still holds.",
            "",
            *_table(["group", "representative", "documents", "sources"], rows),
            *_more(len(spanning)),
            "",
        ]
    header = ["input", "bytes", "SHA-256"]
    rows = [
        [row["name"], f"{row['bytes']:,}" if "bytes" in row else "", row.get("sha256", row.get("hmac_sha256", ""))]
        for row in summary["inputs"][:SHOWN]
    ]
    lines += ["## Inputs", "", *_table(header, rows), *_more(len(summary["inputs"]))]
    return "\n".join(lines).rstrip() + "\n"


def _groups(groups: pa.Table, sources: Sequence[str | None], validation: np.ndarray) -> dict[str, Any]:
    kinds = Counter(groups["kind"].to_pylist())
    members: dict[int, list[int]] = defaultdict(list)
    for i, group in enumerate(groups["group_id"].to_pylist()):
        members[group].append(i)
    larger = {group: found for group, found in members.items() if len(found) > 1}
    representatives = groups["representative"].to_pylist()
    spanning = [
        {
            "group_id": ids.format_id(group),
            "representative": representatives[found[0]],
            "documents": len(found),
            "sources": sorted({sources[i] or _NONE for i in found}),
        }
        for group, found in larger.items()
        if len({sources[i] for i in found}) > 1
    ]
    return {
        "groups": len(larger),
        "alone": len(members) - len(larger),
        "copies": kinds["copy"],
        "near": kinds["near"],
        "template": kinds["template"],
        "held_out_like_training": sum(
            int(validation[found].sum()) for found in larger.values() if not validation[found].all()
        ),
        "spanning_sources": sorted(spanning, key=lambda row: (-row["documents"], row["group_id"])),
    }


def _counts(values: Iterable[Any]) -> dict[str, int]:
    found = Counter(_NONE if value is None else str(value) for value in values)
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _dates(values: Sequence[str | None]) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    return {"first": min(known, default=None), "last": max(known, default=None), "missing": len(values) - len(known)}


def _column(folder: Path, shards: Sequence[str], name: str) -> list[Any]:
    found: list[Any] = []
    for shard in shards:
        with pa.memory_map(str(folder / shard)) as source:
            found += pa.ipc.open_file(source).read_all()[name].to_pylist()
    return found


def _shown(value: str | None) -> str:
    return _NONE if value is None else value.replace("|", "\\|").replace("\n", " ")


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows]]


def _more(count: int) -> list[str]:
    return [f"… and {count - SHOWN:,} more; `card.json` has all."] if count > SHOWN else []
