# SPDX-License-Identifier: Apache-2.0
"""The Ed25519 keys under which certificates and tree heads are signed (RFC 8032).

The private key lies outside the workspace, so that a copy of the workspace is not the power to sign for
it; the workspace keeps the public keys, the present one and those before it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from expunge.errors import InputError, StorageError
from expunge.exact.checkpoint import write_atomically
from expunge.user_files import read_bytes

if TYPE_CHECKING:
    from expunge.workspace import Workspace

VARIABLE = "EXPUNGE_KEYS"
RECORD = "signing.json"


@dataclass(frozen=True)
class PublicKey:
    """A public key, known by the SHA-256 of its DER form (SubjectPublicKeyInfo, RFC 8410)."""

    raw: Ed25519PublicKey

    @property
    def key_id(self) -> str:
        """``sha256:…``: what ``openssl pkey -pubin -outform DER | sha256sum`` gives."""
        der = self.raw.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return f"sha256:{hashlib.sha256(der).hexdigest()}"

    @property
    def pem(self) -> bytes:
        """The key as PEM."""
        return self.raw.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def holds(self, signature: bytes, message: bytes) -> bool:
        """Whether a signature of a message is of this key."""
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
        """What verifies its signatures."""
        return PublicKey(self.raw.public_key())

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message, 64 bytes."""
        return self.raw.sign(message)


def keys_folder() -> Path:
    """Where private keys are made: EXPUNGE_KEYS, or ``expunge/keys`` in the user's configuration folder."""
    if named := os.environ.get(VARIABLE):
        return Path(os.path.abspath(named))
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(os.path.abspath(os.path.expanduser(home))) / "expunge" / "keys"


def public_key(workspace: Workspace) -> PublicKey | None:
    """Return the workspace's present public key; None before it has one."""
    record = _record(workspace)
    return None if record is None else read_public(_public_path(workspace, record["key_id"]))


def public_path(workspace: Workspace) -> Path | None:
    """Return the file of the present public key: what a verifier is given."""
    record = _record(workspace)
    return None if record is None else _public_path(workspace, record["key_id"])


def public_keys(workspace: Workspace) -> dict[str, PublicKey]:
    """Return all public keys that the workspace ever signed with, by their ids."""
    found = [read_public(path) for path in sorted(_public_folder(workspace).glob("*.pem"))]
    return {key.key_id: key for key in found}


def signing_key(workspace: Workspace) -> SigningKey:
    """Return the workspace's key; it is made where the workspace has none yet.

    Raises:
        StorageError: If the key is recorded but cannot be read.
        InputError: If others may read it.
    """
    record = _record(workspace)
    if record is None:
        record = install(workspace, generate())
    path = _private_path(record)
    key = read_private(path)
    if key.public.key_id != record["key_id"]:
        raise InputError(
            "The signing key is not the workspace's.",
            f"{path} holds another key than the one recorded.",
            "Restore it from a backup.",
        )
    return key


def generate() -> Path:
    """Make a new key in the keys' folder, readable by its owner alone; returns its file."""
    key, folder = SigningKey(Ed25519PrivateKey.generate()), keys_folder()
    path = folder / f"{key.public.key_id.removeprefix('sha256:')}.pem"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(key.raw.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(
            f"The signing key cannot be kept in {folder}.",
            error.strerror or type(error).__name__,
            f"Name another folder with {VARIABLE}, or give a key with: expunge init --key PEM",
        ) from error
    return path


def install(workspace: Workspace, path: Path, *, replace: bool = False) -> dict[str, str]:
    """Make a private key's file the workspace's signing key; of two processes the first wins.

    Args:
        workspace: Whose certificates it will sign.
        path: The key, PEM (PKCS 8).
        replace: In place of the present key; otherwise that one stays.
    """
    path = Path(os.path.abspath(path))
    key = read_private(path)
    record = {"key_id": key.public.key_id, "private": str(path)}
    target = workspace.folder("keys") / RECORD
    public = _public_path(workspace, key.public.key_id)
    fresh = not public.exists()
    write_atomically(public, key.public.pem, "The public key")
    content = (json.dumps(record, indent=1) + "\n").encode()
    if replace:
        write_atomically(target, content, "The record of the signing key")
        return record
    draft = target.with_name(f".{RECORD}.{os.getpid()}.tmp")
    write_atomically(draft, content, "The record of the signing key")
    try:
        os.link(draft, target)
    except FileExistsError:
        made = json.loads(target.read_text(encoding="utf-8"))
        if made["key_id"] != record["key_id"]:
            if fresh:
                public.unlink(missing_ok=True)
            if path.parent == keys_folder():
                path.unlink()
        return dict(made)
    finally:
        draft.unlink(missing_ok=True)
    return record


def read_private(path: Path) -> SigningKey:
    """Read a private key.

    Raises:
        StorageError: If it cannot be read.
        InputError: If it is no Ed25519 key, or if others may read it or put another in its place.
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
        key = load_pem_private_key(content, None)
    except (ValueError, TypeError) as error:
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
    """Read a public key.

    Raises:
        InputError: If it cannot be read, or is no Ed25519 public key.
    """
    try:
        key = load_pem_public_key(read_bytes(path))
    except OSError as error:
        raise InputError(
            f"The public key {path} cannot be read.",
            error.strerror or type(error).__name__,
            "Check the path.",
        ) from error
    except ValueError as error:
        raise InputError(
            f"{path} is no public key.", "It is not PEM (SubjectPublicKeyInfo).", "Check the path."
        ) from error
    if not isinstance(key, Ed25519PublicKey):
        raise InputError(
            f"{path} is a key of another kind.", "Certificates are signed with Ed25519.", "Give such a key."
        )
    return PublicKey(key)


def _record(workspace: Workspace) -> dict[str, str] | None:
    with contextlib.suppress(FileNotFoundError):
        found = json.loads((workspace.root / "keys" / RECORD).read_text(encoding="utf-8"))
        return {"key_id": str(found["key_id"]), "private": str(found["private"])}
    return None


def _private_path(record: dict[str, str]) -> Path:
    """Where the private key lies; in the keys' folder of today, if it was moved there."""
    path = Path(record["private"])
    moved = keys_folder() / path.name
    # os.path: a folder that may not be entered is no accident here; reading the key says so
    return moved if not os.path.exists(path) and os.path.exists(moved) else path


def _public_folder(workspace: Workspace) -> Path:
    return workspace.root / "keys" / "public"


def _public_path(workspace: Workspace, key_id: str) -> Path:
    return _public_folder(workspace) / f"{key_id.removeprefix('sha256:')}.pem"
