"""The file of trusted keys, ``trusted-keys.json``."""

import base64
import json
from pathlib import Path
from typing import Any

from memsinks.certificate.encoding import format_time, parse_time, read_object
from memsinks.certificate.files import write_whole
from memsinks.certificate.keys import PublicKey, read_public_key
from memsinks.certificate.trust import TrustedKey, TrustedKeys, trust
from memsinks.errors import InputError

FORMAT, FORMAT_VERSION = "memsinks-trusted-keys", 1
_FIELDS = {"id", "name", "public_key", "not_before", "not_after", "revoked_at"}


def read_trusted_keys(file: Path) -> TrustedKeys:
    """Read a file of trusted keys, or a public key in PEM, which is then trusted for all times.

    Raises:
        InputError: the file cannot be read or used.
    """
    if _read(file).lstrip().startswith(b"-----BEGIN "):
        return (TrustedKey(public=read_public_key(file), name=key_name(file)),)
    return read_trust_file(file)


def read_trust_file(file: Path) -> TrustedKeys:
    """Read a file of trusted keys.

    Raises:
        InputError: the file cannot be read or used.
    """
    data = _read(file)
    try:
        content = read_object(data)
        if content.get("format") != FORMAT or not isinstance(content.get("keys"), list):
            raise InputError(f"not a file of trusted keys (format {FORMAT!r})")
        if content.get("format_version") != FORMAT_VERSION:
            raise InputError(
                f"format version {content.get('format_version')!r}, and this memsinks reads {FORMAT_VERSION}; use a "
                "newer memsinks"
            )
        keys: TrustedKeys = ()
        for row in content["keys"]:
            keys = trust(keys, _key(row))
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    return keys


def write_trust_file(file: Path, keys: TrustedKeys) -> None:
    """Write a file of trusted keys, in place of one that may be there.

    Raises:
        InputError: it cannot be written.
    """
    content = {"format": FORMAT, "format_version": FORMAT_VERSION, "keys": [_row(key) for key in keys]}
    write_whole(file, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def key_name(file: Path) -> str:
    """What a key is called by the name of its file: ``desk`` for ``desk.public.pem``."""
    return file.name.removesuffix(".pem").removesuffix(".public") or file.name


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from error


def _row(key: TrustedKey) -> dict[str, str | None]:
    times = {"not_before": key.not_before, "not_after": key.not_after, "revoked_at": key.revoked_at}
    return {
        "id": key.public.id,
        "name": key.name,
        "public_key": base64.b64encode(key.public.raw).decode(),
        **{name: None if time is None else format_time(time) for name, time in times.items()},
    }


def _key(row: Any) -> TrustedKey:
    # A field that is not known may limit the key, so it is not passed over.
    if not isinstance(row, dict) or set(row) != _FIELDS:
        raise InputError(f"each key needs the fields {', '.join(sorted(_FIELDS))} and no others")
    texts = [row["id"], row["name"], row["public_key"]]
    times = {name: row[name] for name in ("not_before", "not_after", "revoked_at")}
    if not all(isinstance(value, str) for value in [*texts, *(time for time in times.values() if time is not None)]):
        raise InputError("a key's fields are strings, or null for a time that is not set")
    try:
        public = PublicKey(base64.b64decode(row["public_key"], validate=True))
    except ValueError as error:
        raise InputError(f"the key of {row['name']!r} is not base64: {error}") from error
    if public.id != row["id"]:
        raise InputError(
            f"the key of {row['name']!r} has the ID {public.id}, not {row['id']!r}; one of them was altered"
        )
    read = {name: None if time is None else parse_time(time) for name, time in times.items()}
    return TrustedKey(public=public, name=row["name"], **read)
