"""Ed25519 keys: in PEM files (PKCS #8 and SubjectPublicKeyInfo) or in environment variables.

No error or representation holds a private key or a passphrase, nor do the errors of the library below, which are
therefore not chained.
"""

import base64
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from memsinks.certificate.files import check_new, write_whole
from memsinks.errors import InputError

_PEM = b"-----BEGIN "
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class PublicKey:
    """An Ed25519 public key.

    Attributes:
        raw: its 32 bytes.
    """

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != 32:
            raise InputError(f"an Ed25519 public key has 32 bytes, not {len(self.raw)}")

    @property
    def id(self) -> str:
        """SHA-256 of its 32 bytes, as 64 hexadecimal digits."""
        return hashlib.sha256(self.raw).hexdigest()

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether the signature of the message is this key's."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def pem(self) -> bytes:
        """The key as SubjectPublicKeyInfo in PEM."""
        return Ed25519PublicKey.from_public_bytes(self.raw).public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )


class SigningKey:
    """An Ed25519 private key; its representation shows the public key's ID only.

    Attributes:
        public: the public key.
    """

    __slots__ = ("_private", "public")

    def __init__(self, private: Ed25519PrivateKey):
        self._private = private
        self.public = PublicKey(private.public_key().public_bytes_raw())

    @classmethod
    def generate(cls) -> "SigningKey":
        """A new key from the operating system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    def __repr__(self) -> str:
        return f"SigningKey(id={self.public.id})"

    def sign(self, message: bytes) -> bytes:
        """The 64 bytes of the signature."""
        return self._private.sign(message)

    def private_pem(self, passphrase: bytes | None = None) -> bytes:
        """The private key as PKCS #8 in PEM, encrypted if there is a passphrase."""
        encryption = (
            serialization.NoEncryption() if passphrase is None else serialization.BestAvailableEncryption(passphrase)
        )
        return self._private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def read_signing_key(file: Path, *, passphrase_variable: str | None = None) -> SigningKey:
    """Read a private key from a PEM file.

    Args:
        file: the file.
        passphrase_variable: environment variable with the passphrase of an encrypted key.

    Raises:
        InputError: others than the owner may read the file, or it holds no Ed25519 private key, or the passphrase is
            missing or wrong.
    """
    try:
        with file.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            # Windows has no such permissions.
            if os.name == "posix" and mode & 0o077:
                raise InputError(
                    f"{file}: a private key that others than its owner may read or write (mode {mode & 0o777:o}); run "
                    f"chmod 600 {file}, and if others had access, replace the key"
                )
            data = opened.read()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from error
    if not data.lstrip().startswith(_PEM):
        raise InputError(f"{file}: not a PEM file; memsinks keys new writes one")
    return SigningKey(_private(data, str(file), passphrase_variable))


def signing_key_from_environment(variable: str, *, passphrase_variable: str | None = None) -> SigningKey:
    """Read a private key from an environment variable: PEM text, or base64 of the 32 raw bytes.

    Args:
        variable: its name.
        passphrase_variable: environment variable with the passphrase of an encrypted key.

    Raises:
        InputError: the variable is not set or holds no Ed25519 private key, or the passphrase is missing or wrong.
    """
    where = f"environment variable {variable}"
    data = _variable(variable).strip()
    if data.startswith(_PEM):
        return SigningKey(_private(data, where, passphrase_variable))
    if passphrase_variable is not None:
        raise InputError(f"{where}: not PEM, so there is nothing to decrypt with the passphrase")
    try:
        raw = base64.b64decode(data, validate=True)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise InputError(f"{where}: neither PEM text nor base64 of the 32 bytes of an Ed25519 private key")
    return SigningKey(Ed25519PrivateKey.from_private_bytes(raw))


def read_public_key(file: Path) -> PublicKey:
    """Read a public key from a PEM file.

    Raises:
        InputError: the file cannot be read or holds no Ed25519 public key.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from error
    if b"PRIVATE KEY-----" in data:
        raise InputError(f"{file}: a private key, which nobody but the signer needs; give the public one")
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise InputError(f"{file}: not an Ed25519 public key in PEM (SubjectPublicKeyInfo)")
    return PublicKey(key.public_bytes_raw())


def write_key_pair(
    key: SigningKey, folder: Path, name: str, *, passphrase_variable: str | None = None
) -> tuple[Path, Path]:
    """Write ``NAME.private.pem``, which only its owner may read, and ``NAME.public.pem``.

    Args:
        key: the key.
        folder: an existing folder.
        name: begins the names of both files.
        passphrase_variable: environment variable with a passphrase to encrypt the private key with.

    Returns:
        The paths of the private and the public key.

    Raises:
        InputError: the name cannot be one of a file, a file exists already or cannot be written, or the variable is
            not set.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"{name!r} cannot name a key: use letters, digits, dots, underscores and hyphens")
    private, public = folder / f"{name}.private.pem", folder / f"{name}.public.pem"
    check_new(private)
    check_new(public)
    passphrase = None if passphrase_variable is None else _variable(passphrase_variable)
    write_whole(public, key.public.pem())
    write_whole(private, key.private_pem(passphrase), mode=0o600)
    return private, public


def _private(pem: bytes, where: str, passphrase_variable: str | None) -> Ed25519PrivateKey:
    passphrase = None if passphrase_variable is None else _variable(passphrase_variable)
    try:
        key = serialization.load_pem_private_key(pem, passphrase)
    except TypeError:
        # The library tells only so that a passphrase is missing, or not needed.
        if passphrase is None:
            problem = "the private key is encrypted; name the environment variable that holds its passphrase"
        else:
            problem = "the private key is not encrypted, but a passphrase was given; leave it out"
        raise InputError(f"{where}: {problem}") from None
    except (ValueError, UnsupportedAlgorithm):
        problem = "not a private key in PEM (PKCS #8)"
        if passphrase is not None:
            problem += f", or the passphrase in {passphrase_variable} is wrong"
        raise InputError(f"{where}: {problem}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{where}: a private key of another kind; certificates are signed with Ed25519")
    return key


def _variable(name: str) -> bytes:
    value = os.environ.get(name)
    if not value:
        raise InputError(f"environment variable {name} is not set, or empty")
    return os.fsencode(value)
