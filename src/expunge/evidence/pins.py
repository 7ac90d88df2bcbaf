# SPDX-License-Identifier: Apache-2.0
"""Pinned keys: the public keys that a workspace trusts, stored beside the private keys.

Pins lie outside the workspace, because anyone who can write to a workspace could add a public key to it. The
name of the pin file is derived from the workspace's suppression secret, like that of its anchor.
"""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.errors import InputError, StorageError
from expunge.storage.files import write_atomically

if TYPE_CHECKING:
    from expunge.workspace import Workspace

VARIABLE = "EXPUNGE_KEYS"
FOLDER = "pins"


@dataclass(frozen=True)
class Pin:
    """A trusted key.

    Attributes:
        key_id: The key's id.
        pem: The public key, PEM.
        private: Path of the private key; empty if unknown.
    """

    key_id: str
    pem: str
    private: str = ""


def keys_folder() -> Path:
    """Return the folder of private keys: EXPUNGE_KEYS, or ``expunge/keys`` in the user's configuration."""
    if named := os.environ.get(VARIABLE):
        return Path(os.path.abspath(named))
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(os.path.abspath(os.path.expanduser(home))) / "expunge" / "keys"


def file_of(workspace: Workspace) -> Path:
    """Return the path of a workspace's pin file."""
    return keys_folder() / FOLDER / f"{_name(workspace)}.json"


def pins_of(workspace: Workspace) -> tuple[Pin, ...]:
    """Return the pinned keys of a workspace, the current one last; empty if none is pinned.

    Raises:
        InputError: If the pin file exists but cannot be read.
    """
    return _read(file_of(workspace))


def pinned_elsewhere(workspace: Workspace, key_id: str) -> bool:
    """Return whether a key is pinned for another workspace, and not for this one."""
    mine = file_of(workspace)
    files = [file for file in sorted(mine.parent.glob("*.json")) if file != mine]
    return any(pin.key_id == key_id for file in files for pin in _read(file)) and not any(
        pin.key_id == key_id for pin in _read(mine)
    )


def add(workspace: Workspace, pin: Pin) -> None:
    """Pin a key as the current one.

    Raises:
        StorageError: If the folder cannot be written.
    """
    file = file_of(workspace)
    kept: Sequence[Pin] = [known for known in _read(file) if known.key_id != pin.key_id]
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"The key cannot be pinned in {file.parent}.",
            error.strerror or type(error).__name__,
            f"Name another folder outside of the workspace with {VARIABLE}.",
        ) from error
    content = json.dumps([asdict(known) for known in (*kept, pin)], indent=1) + "\n"
    write_atomically(file, content.encode(), "What is known of the signing key")


def _name(workspace: Workspace) -> str:
    return hmac.digest(workspace.key, b"expunge pins", "sha256").hex()[:32]


def _read(file: Path) -> tuple[Pin, ...]:
    try:
        return tuple(Pin(**found) for found in json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            "The pinned keys of the workspace cannot be read.",
            f"{file}: {type(error).__name__}",
            f"Restore the file from a backup of the folder with the keys (or the one that {VARIABLE} names).",
        ) from error
