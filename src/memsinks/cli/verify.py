"""``memsinks verify``: check a certificate of removal against what was delivered."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

# cryptography is imported when the command runs: this module is imported whenever the command line starts.
if TYPE_CHECKING:
    from memsinks.certificate.check import Checked
    from memsinks.certificate.predicate import Predicate


@dataclass(frozen=True)
class Verify:
    """Check a certificate of removal against a delivered directory, offline."""

    certificate: tyro.conf.Positional[Path]
    """The certificate."""
    directory: tyro.conf.Positional[Path]
    """The folder that was delivered with it."""
    trust: Path
    """A file of trusted keys (memsinks keys trust), or one public key in PEM."""
    json: bool = False
    """Print JSON in place of the summary."""

    def run(self) -> int:
        """Run the command."""
        from memsinks.certificate.check import check
        from memsinks.certificate.trust_file import read_trusted_keys

        trusted = read_trusted_keys(self.trust)
        with Console(stderr=True).status("comparing files"):
            checked = check(self.certificate, self.directory, trusted)
        console = Console(highlight=False, soft_wrap=True)
        if self.json:
            console.print_json(json.dumps(_record(checked)), ensure_ascii=True)
        elif checked.valid:
            _show(console, self.certificate.name, checked)
        else:
            console.print(_line(f"{self.certificate.name} does not hold for {self.directory}:", "bold red"))
            for problem in checked.problems:
                console.print(_line(f"- {problem.message}"))
        return 0 if checked.valid else 1


def _show(console: Console, name: str, checked: "Checked") -> None:
    assert checked.statement is not None
    said = checked.statement.predicate
    console.print(_line(f"{name} holds: {len(checked.statement.subject):,} files are as certified", "bold"))
    for status in checked.signatures:
        if status.verdict == "accepted":
            console.print(_line(f"signed by {status.name}, key {status.key_id}"))
        else:
            console.print(_line(f"signature of {status.name or status.key_id} not counted: {status.note}", "yellow"))
        if status.verdict == "accepted" and status.note:
            console.print(_line(f"warning: {status.note}", "yellow"))
    for fact, value in _facts(said):
        console.print(_line(f"{fact}: {value}"))
    if said.verification:
        checks = Table("check", "verdict", "figure", "threshold", "interval")
        for test in said.verification:
            interval = "" if test.interval is None else f"[{test.interval[0]:.4g}, {test.interval[1]:.4g}]"
            verdict = _line(test.verdict, "" if test.verdict == "pass" else "bold red")
            checks.add_row(_line(test.name), verdict, _number(test.figure), _number(test.threshold), Text(interval))
        console.print(checks)
    if said.complete:
        console.print(_line("The removal is complete: nothing that was asked for was kept."))
    else:
        console.print(_line("The removal is NOT complete:", "bold red"))
        for reason in said.reasons:
            console.print(_line(f"- {reason.kind.replace('_', ' ')} ({reason.count:,}): {reason.detail}"))
    console.print(_line("The certificate does not claim more than that:"))
    for sentence in said.does_not_claim:
        console.print(_line(f"- {sentence}"))


def _facts(said: "Predicate") -> list[tuple[str, str]]:
    from memsinks.certificate.encoding import format_time

    asked = ", ".join(f"{kind} {count:,}" for kind, count in said.request.kinds.items())
    rows = f"{sum(said.rows_removed.values()):,} in {len(said.rows_removed):,} layers"
    facts = [
        ("removal", said.removal),
        ("time, as the signer states it", format_time(said.time)),
        ("target", said.request.target),
        ("asked for", f"{asked or 'nothing by name'}; sequence IDs {len(said.request.ids):,}"),
        ("rows removed", rows),
        *((f"policy: {name}", choice) for name, choice in said.policies.items()),
        *((f"evidence: {name}", f"sha256 {digest}") for name, digest in said.evidence.items()),
    ]
    if said.corpus_sha256 is not None:
        facts.append(("corpus manifest", f"sha256 {said.corpus_sha256}"))
    if said.ledger is not None:
        facts.append(("ledger", f"entry {said.ledger.seq}, {said.ledger.hash}"))
    return [*facts, ("memsinks", said.code_version)]


def _record(checked: "Checked") -> dict[str, Any]:
    statement = checked.statement
    return {
        "format": "memsinks-verify",
        "format_version": 1,
        "valid": checked.valid,
        "problems": [asdict(problem) for problem in checked.problems],
        "signatures": [asdict(status) for status in checked.signatures],
        "subject": None if statement is None else dict(statement.subject),
        "predicate": None if statement is None else statement.predicate.as_dict(),
    }


def _number(value: float | None) -> Text:
    return Text("" if value is None else f"{value:.4g}")


def _line(text: str, style: str = "") -> Text:
    """Text from a file, which may hold control characters that a terminal would obey, and markup."""
    return Text("".join(c if c.isprintable() else repr(c)[1:-1] for c in text), style=style)
