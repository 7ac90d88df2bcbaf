# SPDX-License-Identifier: Apache-2.0
"""The keys that a verification in a workspace trusts: the pinned keys and their successors.

Pins lie outside the workspace. A rotation lies in its log and is signed by the previous key, so anyone who
can write to the workspace can delete a rotation, but cannot forge one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from expunge.errors import ExpungeError, InputError
from expunge.evidence import key_store, log, transport
from expunge.evidence.key_material import PublicKey, read_private
from expunge.evidence.rotation import successors

if TYPE_CHECKING:
    from expunge.workspace import Workspace


def trusted_keys(workspace: Workspace) -> dict[str, PublicKey]:
    """Return the trusted keys of a workspace by id; empty before it has a key.

    If no key is pinned yet, a private key in the folder of keys counts as a pin of its public key.

    Raises:
        InputError: If the workspace has keys, but none of them is pinned.
    """
    found = key_store.pinned_keys(workspace)
    if not found:
        own = [read_private(path).public for path in key_store.own_keys(workspace).values()]
        found = {key.key_id: key for key in own}
    if found:
        return chained(found, _log_of(workspace))
    key_store.check_secret(workspace)
    if key_store.recorded_id(workspace) is None and not key_store.public_keys(workspace):
        return {}
    raise InputError(
        "There is no key to verify with.",
        "A public key in the workspace proves nothing: whoever can write to the workspace could have put it"
        f" there. Nothing in {key_store.keys_folder()} says which key counts.",
        "Give the signer's public key, from a source that you trust: --public-key PEM. If a key is yours, let"
        " it count from now on: expunge keys pin PEM",
    )


def chained(roots: dict[str, PublicKey], content: bytes) -> dict[str, PublicKey]:
    """Return keys and the successors that a log's rotations name, by id.

    Args:
        roots: Trusted keys by id.
        content: The log's bytes; a broken log names no successors.
    """
    if log.ROTATED.encode() not in content:
        return roots
    text = transport.lines_of(content)
    try:
        entries = log.parse(text)
    except log.BrokenLog:
        try:
            entries = log.parse(text.rpartition(b"\n")[0] + b"\n")  # without an incomplete last line
        except log.BrokenLog:
            return roots
    found = dict(roots)
    for root in roots.values():
        found |= successors(entries, root)
    return found


def is_signers(workspace: Workspace, key: PublicKey) -> bool:
    """Return whether a workspace knows a key.

    This decides only which checks against the catalog are possible, never whether a certificate is valid.
    """
    if key.key_id in key_store.public_keys(workspace):
        return True
    try:
        return key.key_id in trusted_keys(workspace)
    except ExpungeError:
        return False


def _log_of(workspace: Workspace) -> bytes:
    path: Path = workspace.root / "log" / log.ENTRIES
    return path.read_bytes() if path.is_file() else b""
