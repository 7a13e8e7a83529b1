"""``memsinks why``."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from memsinks.corpus import Corpus, Why, why
from memsinks.corpus.storage import Place
from memsinks.ids import format_id

_SHOWN = 20
_TEXT = 160


@dataclass(frozen=True)
class Explain:
    """Say which IDs a document has, with whom it shares them, and on what evidence."""

    corpus: tyro.conf.Positional[Place]
    """A folder that `memsinks prepare` wrote, or its URL."""
    document: tyro.conf.Positional[str]
    """The document's name."""
    json: bool = False
    """Print JSON, with every member and passage, in place of tables."""

    def run(self) -> None:
        """Run the command."""
        found = why(Corpus.open(self.corpus, verify=False), self.document)
        console = Console(highlight=False, soft_wrap=True)
        if self.json:
            console.print_json(json.dumps(_record(found), ensure_ascii=False))
            return
        console.print(f"[bold]{found.document}[/] of {_source(found.source)}, {found.words:,} words, {found.split}")
        ids = Table("ID", "value", "documents with it")
        ids.add_row("content", format_id(found.content_id), _names([found.document, *found.same_content]))
        ids.add_row("group", format_id(found.group_id), _names([m.document for m in found.members]))
        if found.source_id is not None:
            ids.add_row("source", format_id(found.source_id), f"all of {found.source}")
        ids.add_row("[bold]sequence (sinks)[/]", format_id(found.sequence_id), _which(found))
        console.print(ids)
        _show_group(console, found)
        _show_passages(console, found)


def _show_group(console: Console, found: Why) -> None:
    if len(found.members) == 1:
        console.print("It is like no other document.")
        return
    table = Table("document", "source", "why it is in the group", title=f"group of {len(found.members):,}")
    for member in found.members[:_SHOWN]:
        table.add_row(member.document, _source(member.source), _evidence(member.kind, member.jaccard, member.shared))
    console.print(table)
    if len(found.members) > _SHOWN:
        console.print(f"… and {len(found.members) - _SHOWN:,} more; --json has all")
    console.print(f"Each is compared with the representative, {found.representative}, and not along a chain.")
    if len(found.sources) > 1:
        names = ", ".join(found.sources)
        console.print(f"[bold red]The group spans sources ({names}): what is removed with one, another still holds.[/]")


def _show_passages(console: Console, found: Why) -> None:
    if not found.shared:
        console.print("It shares no passage with another document.")
        return
    table = Table("document", "source", "words", "of it", "together", "longest passage", title="shared passages")
    for shared in found.shared[:_SHOWN]:
        text = " ".join(shared.text.split())
        table.add_row(
            shared.document,
            _source(shared.source),
            f"{shared.words:,}",
            f"{shared.words / max(1, found.words):.0%}",
            "one group" if shared.same_group else "kept apart",
            text if len(text) <= _TEXT else text[:_TEXT] + " …",
        )
    console.print(table)
    if len(found.shared) > _SHOWN:
        console.print(f"… and {len(found.shared) - _SHOWN:,} more; --json has all")


def _evidence(kind: str, jaccard: float, shared: float) -> str:
    match kind:
        case "representative":
            return "representative: the others are compared with it"
        case "copy":
            return "copy: the same text but for case and blanks"
        case "near":
            return f"near-duplicate: Jaccard index {jaccard:.2f} of runs of three words"
        case _:
            return f"same form, or mostly shared text: {shared:.0%} of the runs of three words of each"


def _which(found: Why) -> str:
    for name in ("content", "group", "source"):
        if found.sequence_id == getattr(found, f"{name}_id"):
            return f"by {name}"
    return "by a column"


def _names(names: list[str]) -> str:
    return "only this one" if len(names) == 1 else f"{len(names):,}"


def _source(source: str | None) -> str:
    return "(no source)" if source is None else source


def _record(found: Why) -> dict[str, Any]:
    record = asdict(found)
    for name in ("sequence_id", "content_id", "group_id", "source_id"):
        record[name] = None if record[name] is None else format_id(record[name])
    for shared in record["shared"]:
        shared["passages"] = [
            dict(zip(("words", "start", "other_start"), passage, strict=True)) for passage in shared["passages"]
        ]
    return {"format": "memsinks-why", "format_version": 1, **record}
