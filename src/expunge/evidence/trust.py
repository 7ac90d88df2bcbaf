# SPDX-License-Identifier: Apache-2.0
"""Which keys a verification in the workspace trusts: the pinned ones, and those that they name as following.

Pins lie outside of the workspace. A rotation statement lies in its log and is signed by the key before, so
whoever can write to the workspace can drop one and cannot make one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from expunge.errors import ExpungeError, InputError
from expunge.evidence import keys, log, transport
from expunge.evidence.key_material import PublicKey, read_private
from expunge.evidence.rotation import successors

if TYPE_CHECKING:
    from expunge.workspace import Workspace


def trusted_keys(workspace: Workspace) -> dict[str, PublicKey]:
    """Return the keys whose signatures count for a workspace, by their ids; none before it has a key.

    Where nothing was pinned yet, a private key in the keys' folder counts as the pin of its public key.

    Raises:
        InputError: If the workspace has keys, and nothing outside of it says that they count.
    """
    found = keys.pinned_keys(workspace)
    if not found:
        own = [read_private(path).public for path in keys.own_keys(workspace).values()]
        found = {key.key_id: key for key in own}
    if found:
        return chained(found, _log_of(workspace))
    keys.check_secret(workspace)
    if keys.recorded_id(workspace) is None and not keys.public_keys(workspace):
        return {}
    raise InputError(
        "There is no key to verify with.",
        "A public key in the workspace proves nothing: whoever can write to the workspace could have put it"
        f" there. Nothing in {keys.keys_folder()} says which key counts.",
        "Give the signer's public key, from a source that you trust: --public-key PEM. If a key is yours, let"
        " it count from now on: expunge keys pin PEM",
    )


def chained(roots: dict[str, PublicKey], content: bytes) -> dict[str, PublicKey]:
    """Return keys and those that they name as following them in a log, by their ids."""
    if log.ROTATED.encode() not in content:
        return roots
    text = transport.lines_of(content)
    try:
        entries = log.parse(text)
    except log.BrokenLog:
        try:
            entries = log.parse(text.rpartition(b"\n")[0] + b"\n")  # a crash may have torn the last line
        except log.BrokenLog:
            return roots
    found = dict(roots)
    for root in roots.values():
        found |= successors(entries, root)
    return found


def is_signers(workspace: Workspace, key: PublicKey) -> bool:
    """Whether a workspace knows a key: that decides what can be compared, never what is valid."""
    if key.key_id in keys.public_keys(workspace):
        return True
    try:
        return key.key_id in trusted_keys(workspace)
    except ExpungeError:
        return False


def _log_of(workspace: Workspace) -> bytes:
    path: Path = workspace.root / "log" / log.ENTRIES
    return path.read_bytes() if path.is_file() else b""
