"""``memsinks ledger``."""

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console

from memsinks.errors import ConfigError, LedgerError
from memsinks.ids import format_id

if TYPE_CHECKING:
    from memsinks.ledger import Entry, Head, Ledger, Problem

VARIABLE, DEFAULT = "MEMSINKS_LEDGER", "ledger.sqlite"


@dataclass(frozen=True, kw_only=True)
class _AtLedger:
    # Read later than here: a default is printed by --help, and the variable may have a password in it.
    ledger: str | None = None
    """An SQLite file, or an SQLAlchemy URL such as postgresql://desk@host/governance; default the environment variable
    MEMSINKS_LEDGER, else ledger.sqlite."""

    def opened(self, *, new: bool = False) -> "Ledger":
        """The ledger; refused if there is none, unless ``new`` lets the first entry make one."""
        # Not at the top: this module is imported to parse any command.
        from memsinks.ledger import Ledger

        ledger = Ledger.open(self.ledger or os.environ.get(VARIABLE) or DEFAULT)
        if not new and not ledger.exists():
            raise LedgerError(f"{ledger.place}: there is no ledger yet; give --ledger, or set {VARIABLE}")
        return ledger


@dataclass(frozen=True, kw_only=True)
class _Writing(_AtLedger):
    operator: str | None = None
    """Your name, kept beside the entry and not in it."""
    keep_days: int | None = None
    """Days for which the name is kept; default until it is erased."""

    def options(self) -> dict[str, Any]:
        """What the entry has from these."""
        if self.keep_days is not None and self.operator is None:
            raise ConfigError("--keep-days says how long a name is kept; give --operator too")
        return {
            "people": {"operator": self.operator} if self.operator is not None else None,
            "keep_days": self.keep_days,
        }


@dataclass(frozen=True, kw_only=True)
class Show(_AtLedger):
    """Print the entries, and the state of each removal."""

    removal: str | None = None
    """Only this removal."""

    def run(self) -> None:
        """Run the command."""
        ledger = self.opened()
        entries, names, states = ledger.entries(self.removal), ledger.names(), ledger.removals()
        for entry in entries:
            _print(f"{entry.seq}  {entry.time}  {entry.kind}  {entry.removal or '-'}")
            for role, commitment in entry.people.items():
                person = names.get(commitment)
                _print(f"    {role}: {'erased' if person is None or person.erased else person.name}")
            for key, value in entry.body.items():
                _print(f"    {key}: {_text(value)}")
        for removal, state in states.items():
            if self.removal in (None, removal):
                _print(f"{removal} is {state}")
        if not entries:
            _print("no entries")


@dataclass(frozen=True, kw_only=True)
class Verify(_AtLedger):
    """Check the chain, its end and the names; exits with 1 and a list if something is wrong."""

    anchor: tuple[str, ...] = ()
    """Numbers and hashes of entries that were written down elsewhere, each as SEQ:HASH."""
    file: Path | None = None
    """Check this file of `memsinks ledger export` in place of a database."""

    def run(self) -> int:
        """Run the command."""
        from memsinks.ledger import Head, verify_file

        if self.file is not None and self.ledger is not None:
            raise ConfigError("--file and --ledger are two places to verify; give one of them")
        anchors = [Head.parse(text) for text in self.anchor]
        if self.file is not None:
            return _report(str(self.file), *verify_file(self.file, anchors))
        ledger = self.opened()
        return _report(ledger.place, *ledger.check(anchors))


@dataclass(frozen=True, kw_only=True)
class Expire(_AtLedger):
    """Erase the names whose retention has passed."""

    def run(self) -> None:
        """Run the command."""
        _print(f"names erased: {self.opened().expire()}")


@dataclass(frozen=True, kw_only=True)
class Erase(_AtLedger):
    """Erase one person's name, in every role; exits with 1 if it is not there."""

    name: tyro.conf.Positional[str]
    """The whole name; case does not matter."""

    def run(self) -> int:
        """Run the command."""
        erased = self.opened().erase(self.name)
        _print(f"names erased: {erased}")
        return 0 if erased else 1


@dataclass(frozen=True, kw_only=True)
class Note(_Writing):
    """Add a note to a removal."""

    removal: tyro.conf.Positional[str]
    """The removal that it is about."""
    text: tyro.conf.Positional[str]
    """What to note. It stays for good: name nobody in it."""

    def run(self) -> None:
        """Run the command."""
        _recorded(self.opened(new=True).append("noted", self.removal, {"text": self.text}, **self.options()))


@dataclass(frozen=True, kw_only=True)
class Export(_AtLedger):
    """Write all entries as JSON lines."""

    output: Path
    """The file to make."""
    names: bool = False
    """Write the names too, as far as they are not erased."""

    def run(self) -> None:
        """Run the command."""
        head = self.opened().export(self.output, names=self.names)
        _print(f"{self.output}: entries: {head.seq}; last {head}")


@dataclass(frozen=True, kw_only=True)
class Deny(_Writing):
    """Put IDs on the deny-list: not to be served for now."""

    ids: tyro.conf.Positional[tuple[str, ...]]
    """Sequence IDs, 16 hexadecimal digits each."""
    reason: str
    """Why."""
    until: str | None = None
    """UTC, as in 2026-01-31T12:00:00Z; default until they are allowed."""
    removal: str = ""
    """The removal that it belongs to."""

    def run(self) -> None:
        """Run the command."""
        body = {"ids": list(self.ids), "reason": self.reason, "until": self.until}
        _recorded(self.opened(new=True).append("denied", self.removal, body, **self.options()))


@dataclass(frozen=True, kw_only=True)
class Allow(_Writing):
    """Take IDs off the deny-list."""

    ids: tyro.conf.Positional[tuple[str, ...]]
    """Sequence IDs, 16 hexadecimal digits each."""
    reason: str
    """Why."""
    removal: str = ""
    """The removal that it belongs to."""

    def run(self) -> None:
        """Run the command."""
        ledger = self.opened()
        unknown = sorted(set(self.ids) - {format_id(i) for i in ledger.denied(datetime.now(UTC))})
        _recorded(
            ledger.append("allowed", self.removal, {"ids": list(self.ids), "reason": self.reason}, **self.options())
        )
        if unknown:
            _print(f"were not on the deny-list: {', '.join(unknown)}")


@dataclass(frozen=True)
class LedgerCommand:
    """Keep the ledger of removals: an append-only record that shows changes."""

    command: (
        Annotated[Show, tyro.conf.subcommand("show")]
        | Annotated[Verify, tyro.conf.subcommand("verify")]
        | Annotated[Expire, tyro.conf.subcommand("expire")]
        | Annotated[Erase, tyro.conf.subcommand("erase")]
        | Annotated[Note, tyro.conf.subcommand("note")]
        | Annotated[Export, tyro.conf.subcommand("export")]
        | Annotated[Deny, tyro.conf.subcommand("deny")]
        | Annotated[Allow, tyro.conf.subcommand("allow")]
    )

    def run(self) -> int | None:
        """Run the command."""
        return self.command.run()


def _report(place: str, last: "Head", problems: "list[Problem]") -> int:
    for problem in problems:
        _print(str(problem))
    if problems:
        _print(f"{place}: problems: {len(problems)}")
        return 1
    _print(f"{place}: entries: {last.seq}; whole; last {last}")
    return 0


def _recorded(entry: "Entry") -> None:
    _print(f"recorded {entry.kind}: {entry.head}")


def _text(value: Any) -> str:
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value, ensure_ascii=False)


def _print(line: str) -> None:
    Console(highlight=False, soft_wrap=True).print(line, markup=False)
