# SPDX-License-Identifier: Apache-2.0
"""The keys of a workspace, with which its certificates and tree heads are signed.

The private key lies outside the workspace, so that a copy of the workspace cannot sign. The pins of trusted
keys lie there, too (:mod:`expunge.evidence.pins`). The key record and the public keys in the workspace are a
convenience and are never trusted.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from expunge.errors import ExpungeError, InputError, StorageError
from expunge.evidence import pins
from expunge.evidence.key_material import PublicKey, SigningKey, public_of, read_private, read_public
from expunge.evidence.pins import VARIABLE, Pin, keys_folder
from expunge.storage.files import write_atomically

if TYPE_CHECKING:
    from expunge.workspace import Workspace

__all__ = [
    "VARIABLE", "PublicKey", "SigningKey", "check_secret", "generate", "install", "keys_folder", "own_keys",
    "pin", "pinned_keys", "public_key", "public_keys", "public_path", "read_private", "read_public",
    "recorded_id", "restore_public", "signing_key",
]  # fmt: skip
RECORD = "signing.json"


def recorded_id(workspace: Workspace) -> str | None:
    """Return the id of the key in the workspace's key record; None before it has a key."""
    record = _record(workspace)
    return None if record is None else record["key_id"]


def public_key(workspace: Workspace) -> PublicKey | None:
    """Return the workspace's current public key; None before it has a key.

    Raises:
        InputError: If the key in the workspace's record is not trusted.
    """
    record = _record(workspace)
    if record is None:
        return None
    return pinned_keys(workspace).get(record["key_id"]) or signing_key(workspace).public


def public_path(workspace: Workspace) -> Path | None:
    """Return the file of the current public key, to hand to verifiers; None before there is a key."""
    record = _record(workspace)
    return None if record is None else _public_path(workspace, record["key_id"])


def public_keys(workspace: Workspace) -> dict[str, PublicKey]:
    """Return the public keys in the workspace by id; anyone who can write to the workspace can add one."""
    found: dict[str, PublicKey] = {}
    for path in sorted(_public_folder(workspace).glob("*.pem")):
        with contextlib.suppress(InputError):
            key = read_public(path)
            found[key.key_id] = key
    return found


def pinned_keys(workspace: Workspace) -> dict[str, PublicKey]:
    """Return the keys that are pinned for the workspace, by id."""
    found = [public_of(known.pem.encode(), known.key_id) for known in pins.pins_of(workspace)]
    return {key.key_id: key for key in found}


def own_keys(workspace: Workspace) -> dict[str, Path]:
    """Return the private keys in the folder of keys that belong to the workspace, by id.

    Used for workspaces without pins: only the user can put a private key into that folder. Keys that are
    pinned for another workspace are left out.
    """
    record, folder = _record(workspace), keys_folder()
    candidates = [folder / path.name for path in sorted(_public_folder(workspace).glob("*.pem"))]
    candidates += [_private_path(record)] if record is not None else []
    found: dict[str, Path] = {}
    for path in candidates:
        if not _is_in_keys_folder(path):
            continue
        with contextlib.suppress(ExpungeError):
            key_id = read_private(path).public.key_id
            if not pins.pinned_elsewhere(workspace, key_id):
                found[key_id] = path
    return found


def signing_key(workspace: Workspace) -> SigningKey:
    """Return the workspace's signing key; generate it if there is none yet.

    Raises:
        StorageError: If the key is recorded but cannot be read.
        InputError: If other users may read it, or it is not trusted for this workspace.
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
    pinned = {known.key_id for known in pins.pins_of(workspace)}
    if not pinned and key.public.key_id in (own := own_keys(workspace)):
        _pin_own(workspace, own, key.public.key_id)
    elif key.public.key_id not in pinned:
        raise _not_pinned(workspace, path)
    if not (workspace.root / "keys" / RECORD).exists():
        install(workspace, path)  # the record was deleted; the key was found by its pin
    return key


def pin(workspace: Workspace, path: Path) -> PublicKey:
    """Pin a key, so that the workspace trusts it from now on; return the public key.

    Args:
        workspace: The workspace that trusts the key.
        path: A public or a private key, PEM.

    Raises:
        InputError: If the file is neither.
    """
    path = Path(os.path.abspath(path))
    is_private = os.path.isfile(path) and b"PRIVATE KEY" in path.read_bytes()
    public = read_private(path).public if is_private else read_public(path)
    private = str(path) if is_private else ""
    known = {pinned.key_id: pinned.private for pinned in pins.pins_of(workspace)}
    if not known:
        _pin_own(workspace, own_keys(workspace))
    private = private or known.get(public.key_id, "")
    pins.add(workspace, Pin(public.key_id, public.pem.decode(), private))
    return public


def generate() -> Path:
    """Generate a private key in the folder of keys, readable by its owner only; return its path."""
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
    """Make a private key the workspace's signing key; return the key record.

    If two processes install a key at once, the first one wins.

    Args:
        workspace: The workspace whose certificates the key will sign.
        path: The private key, PEM (PKCS 8).
        replace: Replace the current key; otherwise an existing key is kept.
    """
    path = Path(os.path.abspath(path))
    key = read_private(path)
    record = {"key_id": key.public.key_id, "private": str(path)}
    target = workspace.folder("keys") / RECORD
    public = _public_path(workspace, key.public.key_id)
    is_new = not public.exists()
    write_atomically(public, key.public.pem, "The public key")
    content = (json.dumps(record, indent=1) + "\n").encode()
    if replace:
        pin(workspace, path)
        write_atomically(target, content, "The record of the signing key")
        return record
    draft = target.with_name(f".{RECORD}.{os.getpid()}.tmp")
    write_atomically(draft, content, "The record of the signing key")
    try:
        os.link(draft, target)
    except FileExistsError:
        existing = json.loads(target.read_text(encoding="utf-8"))
        if existing["key_id"] != record["key_id"]:
            if is_new:
                public.unlink(missing_ok=True)
            if path.parent == keys_folder():
                path.unlink()
            return dict(existing)
    finally:
        draft.unlink(missing_ok=True)
    pin(workspace, path)
    return record


def restore_public(workspace: Workspace, key: PublicKey) -> Path:
    """Return the file of a public key, rewritten if its content differs."""
    path = _public_path(workspace, key.key_id)
    if not path.is_file() or path.read_bytes() != key.pem:
        write_atomically(path, key.pem, "The public key")
    return path


def check_secret(workspace: Workspace) -> None:
    """Raise an error if the workspace's key is pinned for a workspace with another secret.

    Raises:
        InputError: If the secret differs, so that pins, anchor and suppression list would not be found.
    """
    if pins.pins_of(workspace):
        return
    listed = {f"sha256:{path.stem}" for path in _public_folder(workspace).glob("*.pem")}
    listed.add(recorded_id(workspace) or "")
    if any(pins.pinned_elsewhere(workspace, key_id) for key_id in listed):
        raise InputError(
            "The workspace's secret was changed, or its key is that of another workspace.",
            "keys/suppression.key is not the secret with which the signing key was pinned.",
            "Restore keys/suppression.key from a backup, and find out who changed it. If this is another"
            " workspace that is to share the key: expunge keys pin PEM",
        )


def _not_pinned(workspace: Workspace, path: Path) -> InputError:
    try:
        check_secret(workspace)
    except InputError as error:
        return error
    return InputError(
        "The signing key that the workspace names does not count for it.",
        f"Nothing outside of the workspace says that {path} is its key; whoever can write to the workspace"
        " could have named it.",
        f"If the key is yours: expunge keys pin {path}",
    )


def _pin_own(workspace: Workspace, own: dict[str, Path], present: str = "") -> None:
    """Pin keys of the folder of keys, the current one last; if it cannot be written, they count unpinned."""
    with contextlib.suppress(StorageError):
        for key_id in sorted(own, key=lambda key_id: key_id == present):
            public = read_private(own[key_id]).public
            pins.add(workspace, Pin(key_id, public.pem.decode(), str(own[key_id])))


def _record(workspace: Workspace) -> dict[str, str] | None:
    """Return the workspace's key record; if the record is missing, the private key that was pinned last."""
    try:
        found = json.loads((workspace.root / "keys" / RECORD).read_text(encoding="utf-8"))
        return {"key_id": str(found["key_id"]), "private": str(found["private"])}
    except FileNotFoundError:
        pass
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            "The workspace's record of its signing key cannot be read.",
            f"keys/{RECORD}: {type(error).__name__}",
            f"Delete it: the key is known from the folder of the keys (or the one that {VARIABLE} names).",
        ) from error
    if not (workspace.root / "keys" / "suppression.key").exists():
        return None
    known = [pinned for pinned in pins.pins_of(workspace) if pinned.private]
    return {"key_id": known[-1].key_id, "private": known[-1].private} if known else None


def _private_path(record: dict[str, str]) -> Path:
    """Return the path of the private key: as recorded, or in the folder of keys if it was moved there."""
    path = Path(record["private"])
    moved = keys_folder() / path.name
    # os.path.exists raises nothing for a folder that may not be entered; reading the key reports it
    return moved if not os.path.exists(path) and os.path.exists(moved) else path


def _is_in_keys_folder(path: Path) -> bool:
    return os.path.isfile(path) and Path(os.path.realpath(path)).parent == Path(
        os.path.realpath(keys_folder())
    )


def _public_folder(workspace: Workspace) -> Path:
    return workspace.root / "keys" / "public"


def _public_path(workspace: Workspace, key_id: str) -> Path:
    return _public_folder(workspace) / f"{key_id.removeprefix('sha256:')}.pem"
