"""Which keys a checker trusts, and for which time: rules without a file."""

from dataclasses import dataclass, replace
from datetime import datetime

from memsinks.certificate.encoding import format_time, utc
from memsinks.certificate.keys import PublicKey
from memsinks.errors import InputError

_SHORTEST = 8


@dataclass(frozen=True, kw_only=True)
class TrustedKey:
    """A public key and when its signatures count. Times are in UTC and whole seconds.

    Attributes:
        public: the key.
        name: what the checker calls it.
        not_before: signatures before do not count.
        not_after: the key is retired: signatures after do not count, earlier ones do.
        revoked_at: signatures from then on do not count; earlier ones do, with a warning.

    Raises:
        InputError: the key has no name, a time has no zone, or ``not_after`` is before ``not_before``.
    """

    public: PublicKey
    name: str
    not_before: datetime | None = None
    not_after: datetime | None = None
    revoked_at: datetime | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise InputError("a trusted key needs a name")
        for field in ("not_before", "not_after", "revoked_at"):
            time = getattr(self, field)
            object.__setattr__(self, field, None if time is None else utc(time))
        if self.not_before is not None and self.not_after is not None and self.not_after < self.not_before:
            raise InputError(f"key {self.name!r} would be retired before it is valid ({format_time(self.not_before)})")

    def objection(self, time: datetime) -> str | None:
        """Why a signature of that time does not count, or None if it does."""
        if self.revoked_at is not None and time >= self.revoked_at:
            return f"was revoked at {format_time(self.revoked_at)}"
        if self.not_before is not None and time < self.not_before:
            return f"is valid only from {format_time(self.not_before)}"
        if self.not_after is not None and time > self.not_after:
            return f"was retired at {format_time(self.not_after)}"
        return None


TrustedKeys = tuple[TrustedKey, ...]


def trust(keys: TrustedKeys, key: TrustedKey) -> TrustedKeys:
    """The keys and one more.

    Raises:
        InputError: it is there already.
    """
    if any(known.public == key.public for known in keys):
        raise InputError(f"key {key.public.id} is there already")
    return (*keys, key)


def retire(keys: TrustedKeys, key_id: str, time: datetime) -> TrustedKeys:
    """The keys, one of which signs no more after a time; what it signed before stays valid.

    Args:
        keys: the keys.
        key_id: its ID, or at least 8 digits that begin it.
        time: its last second.

    Raises:
        InputError: no key, or more than one, has that ID, or it is retired from an earlier time on.
    """
    key = find(keys, key_id)
    if key.not_after is not None and key.not_after <= time:
        raise InputError(f"key {key.public.id} is retired already, since {format_time(key.not_after)}")
    return _with(keys, replace(key, not_after=time))


def revoke(keys: TrustedKeys, key_id: str, time: datetime) -> TrustedKeys:
    """The keys, one of which signs no more from a time on, since somebody else may have it.

    Args:
        keys: the keys.
        key_id: its ID, or at least 8 digits that begin it.
        time: the earliest time at which somebody else may have had it.

    Raises:
        InputError: no key, or more than one, has that ID, or it is revoked from an earlier time on.
    """
    key = find(keys, key_id)
    if key.revoked_at is not None and key.revoked_at <= time:
        raise InputError(f"key {key.public.id} is revoked already, since {format_time(key.revoked_at)}")
    return _with(keys, replace(key, revoked_at=time))


def find(keys: TrustedKeys, key_id: str) -> TrustedKey:
    """The key with an ID, or with one that begins with these digits.

    Raises:
        InputError: there is none or more than one, or there are fewer than 8 digits.
    """
    found = [key for key in keys if len(key_id) >= _SHORTEST and key.public.id.startswith(key_id)]
    if len(found) != 1:
        known = ", ".join(f"{key.public.id[:16]}… ({key.name})" for key in keys) or "none"
        what = "more than one key has" if found else "no key has"
        raise InputError(
            f"{what} an ID that begins with {key_id!r} (at least {_SHORTEST} digits); the keys are {known}"
        )
    return found[0]


def _with(keys: TrustedKeys, changed: TrustedKey) -> TrustedKeys:
    return tuple(changed if key.public == changed.public else key for key in keys)
