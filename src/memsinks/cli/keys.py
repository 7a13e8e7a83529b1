"""``memsinks keys``: keys that sign certificates, and the file of keys that a checker trusts."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

# cryptography is imported when a command runs: this module is imported whenever the command line starts.


@dataclass(frozen=True)
class New:
    """Make a key pair: NAME.private.pem, which only its owner may read, and NAME.public.pem."""

    output: Path
    """An existing folder."""
    name: str
    """What the files are called."""
    passphrase_variable: str | None = None
    """Environment variable with a passphrase to encrypt the private key with."""

    def run(self) -> None:
        """Run the command."""
        from memsinks.certificate.keys import SigningKey, write_key_pair

        key = SigningKey.generate()
        private, public = write_key_pair(key, self.output, self.name, passphrase_variable=self.passphrase_variable)
        _say(f"key {key.public.id}", f"{private}: keep it secret", f"{public}: give it to whoever checks certificates")


@dataclass(frozen=True)
class Trust:
    """Add a public key to a file of trusted keys, which is made if there is none."""

    file: tyro.conf.Positional[Path]
    """The file of trusted keys."""
    public: tyro.conf.Positional[Path]
    """The public key, in PEM."""
    name: str | None = None
    """What to call the key; default the name of its file."""
    not_before: str | None = None
    """Time, as 2026-01-31T12:00:00Z, before which its signatures do not count; default none."""

    def run(self) -> None:
        """Run the command."""
        from memsinks.certificate.encoding import parse_time
        from memsinks.certificate.keys import read_public_key
        from memsinks.certificate.trust import TrustedKey, trust
        from memsinks.certificate.trust_file import key_name, read_trust_file, write_trust_file

        key = TrustedKey(
            public=read_public_key(self.public),
            name=key_name(self.public) if self.name is None else self.name,
            not_before=None if self.not_before is None else parse_time(self.not_before),
        )
        keys = read_trust_file(self.file) if self.file.exists() else ()
        write_trust_file(self.file, trust(keys, key))
        _say(f"{self.file}: trusts {key.name}, key {key.public.id}")


@dataclass(frozen=True)
class Retire:
    """Let a trusted key sign no more; what it signed before stays valid."""

    file: tyro.conf.Positional[Path]
    """The file of trusted keys."""
    key: tyro.conf.Positional[str]
    """The key's ID, or at least 8 digits that begin it."""
    at: str | None = None
    """Its last second, as 2026-01-31T12:00:00Z; default now."""

    def run(self) -> None:
        """Run the command."""
        from memsinks.certificate.trust import find, retire
        from memsinks.certificate.trust_file import read_trust_file, write_trust_file

        time = _time(self.at)
        keys = retire(read_trust_file(self.file), self.key, time)
        write_trust_file(self.file, keys)
        _say(f"{self.file}: {find(keys, self.key).name} is retired; what it signed before stays valid")


@dataclass(frozen=True)
class Revoke:
    """Distrust a key from a time on, because somebody else may have it."""

    file: tyro.conf.Positional[Path]
    """The file of trusted keys."""
    key: tyro.conf.Positional[str]
    """The key's ID, or at least 8 digits that begin it."""
    at: str | None = None
    """The earliest time, as 2026-01-31T12:00:00Z, at which somebody else may have had it; default now."""

    def run(self) -> None:
        """Run the command."""
        from memsinks.certificate.encoding import format_time
        from memsinks.certificate.trust import find, revoke
        from memsinks.certificate.trust_file import read_trust_file, write_trust_file

        time = _time(self.at)
        keys = revoke(read_trust_file(self.file), self.key, time)
        write_trust_file(self.file, keys)
        _say(
            f"{self.file}: {find(keys, self.key).name} is revoked from {format_time(time)} on",
            "Certificates that state an earlier time stay valid, with a warning: the time is the signer's word, and "
            "whoever has the key can give it too.",
        )


@dataclass(frozen=True)
class Keys:
    """Make keys that sign certificates of removal, and say which keys to trust."""

    command: (
        Annotated[New, tyro.conf.subcommand("new")]
        | Annotated[Trust, tyro.conf.subcommand("trust")]
        | Annotated[Retire, tyro.conf.subcommand("retire")]
        | Annotated[Revoke, tyro.conf.subcommand("revoke")]
    )

    def run(self) -> None:
        """Run the command."""
        self.command.run()


def _time(text: str | None) -> datetime:
    from memsinks.certificate.encoding import parse_time, utc

    return utc(datetime.now(UTC)) if text is None else parse_time(text)


def _say(*lines: str) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for line in lines:
        console.print(line, markup=False, emoji=False)
