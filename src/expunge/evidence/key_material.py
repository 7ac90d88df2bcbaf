# SPDX-License-Identifier: Apache-2.0
"""Ed25519 keys and their files (RFC 8032, RFC 8410)."""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from expunge.errors import InputError, StorageError
from expunge.evidence.ed25519 import fault_of
from expunge.evidence.pins import VARIABLE
from expunge.evidence.transport import text_of
from expunge.storage.user_files import read_bytes


@dataclass(frozen=True)
class PublicKey:
    """A public key, identified by the SHA-256 of its DER form (SubjectPublicKeyInfo, RFC 8410)."""

    raw: Ed25519PublicKey

    def __post_init__(self) -> None:
        """Refuse a weak key, with which anyone could sign.

        Raises:
            ValueError: If the key is weak.
        """
        if fault := fault_of(self.raw.public_bytes_raw()):
            raise ValueError(f"The key identifies no signer: {fault}.")

    @property
    def key_id(self) -> str:
        """``sha256:`` and the output of ``openssl pkey -pubin -outform DER | sha256sum``."""
        der = self.raw.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return f"sha256:{hashlib.sha256(der).hexdigest()}"

    @property
    def pem(self) -> bytes:
        """The key as PEM."""
        return self.raw.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def holds(self, signature: bytes, message: bytes) -> bool:
        """Return whether a message was signed by this key."""
        try:
            self.raw.verify(signature, message)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class SigningKey:
    """A private key."""

    raw: Ed25519PrivateKey

    @property
    def public(self) -> PublicKey:
        """The public key."""
        return PublicKey(self.raw.public_key())

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message, 64 bytes."""
        return self.raw.sign(message)


def read_private(path: Path) -> SigningKey:
    """Return the private key in a file.

    Raises:
        StorageError: If the file cannot be read.
        InputError: If it is no Ed25519 key, or if other users may read or replace the file.
    """
    try:
        content, file, folder = read_bytes(path), path.stat().st_mode, path.parent.stat().st_mode
    except OSError as error:
        raise StorageError(
            "The signing key cannot be read.",
            f"{path}: {error.strerror or type(error).__name__}",
            f"Restore it, or name its folder with {VARIABLE}. If it is lost: expunge keys rotate --lost",
        ) from error
    if file & (stat.S_IRWXG | stat.S_IRWXO):
        raise InputError(
            f"Others may use the signing key {path}.",
            f"Its mode is {stat.S_IMODE(file):04o}; nobody but its owner may have access.",
            f"Run: chmod 600 {path}",
        )
    if folder & (stat.S_IWGRP | stat.S_IWOTH) and not folder & stat.S_ISVTX:
        raise InputError(
            f"Others may replace the signing key {path}.",
            f"The folder's mode is {stat.S_IMODE(folder):04o}.",
            f"Run: chmod go-w {path.parent}",
        )
    try:
        key = load_pem_private_key(text_of(content).encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InputError(
            f"{path} is no private key that can be used.",
            "It is not PEM, or it is encrypted.",
            "Make one with: openssl genpkey -algorithm ed25519 -out key.pem",
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(
            f"{path} is a key of another kind.", "Certificates are signed with Ed25519.", "Give such a key."
        )
    return SigningKey(key)


def read_public(path: Path) -> PublicKey:
    """Return the public key in a file.

    Raises:
        InputError: If the file cannot be read, is no Ed25519 public key, or is a weak one.
    """
    try:
        content = read_bytes(path)
    except OSError as error:
        raise InputError(
            f"The public key {path} cannot be read.",
            error.strerror or type(error).__name__,
            "Check the path.",
        ) from error
    return public_of(content, str(path))


def public_of(content: bytes, name: str) -> PublicKey:
    """Return the public key in a PEM file's content.

    Args:
        content: PEM; other encodings and line ends are normalised.
        name: Name of the file in error messages.

    Raises:
        InputError: If it is no Ed25519 public key, or is a weak one.
    """
    try:
        key = load_pem_public_key(text_of(content).encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(
            f"{name} is no public key.", "It is not PEM (SubjectPublicKeyInfo).", "Check the path."
        ) from error
    if not isinstance(key, Ed25519PublicKey):
        raise InputError(
            f"{name} is a key of another kind.", "Certificates are signed with Ed25519.", "Give such a key."
        )
    try:
        return PublicKey(key)
    except ValueError as error:
        raise InputError(
            f"{name} is no key that identifies a signer.",
            str(error),
            "Trust nothing that was signed under it. Get the signer's public key from another source.",
        ) from error
