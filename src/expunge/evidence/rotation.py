# SPDX-License-Identifier: Apache-2.0
"""Changing the signing key: the old key names the new one in the log, so that trust can be handed on.

Whoever trusts the old key follows the chain forwards. A lost key cannot name anybody: then the log says that
the key was replaced, and verifiers have to be given the new public key anew. A stolen key could name any
successor: tell verifiers to trust it no longer.
"""

from __future__ import annotations

import base64
import contextlib
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from expunge.errors import InputError
from expunge.evidence import dsse, keys, log
from expunge.evidence.keys import PublicKey, SigningKey

if TYPE_CHECKING:
    from expunge.workspace import Workspace

ROTATION_TYPE = "application/vnd.expunge.key-rotation+json"
REPLACED = "key-replaced"


def rotate(workspace: Workspace, path: Path | None = None, *, lost: bool = False) -> PublicKey:
    """Sign with another key from now on; what was signed before stays, and its public key is kept.

    Args:
        workspace: Whose key changes.
        path: The new private key, PEM; None: one is made.
        lost: The old key is gone, so it cannot name the new one.

    Returns:
        The new public key.

    Raises:
        InputError: If the new key is the present one, or cannot be used.
        StorageError: If the old key cannot be read, and is not said to be lost.
    """
    old = None if lost else keys.signing_key(workspace)
    path = keys.generate() if path is None else path
    new = keys.read_private(path).public
    if keys.recorded_id(workspace) == new.key_id:
        raise InputError("This is the present key already.", "", "Give another one, or none to make one.")
    if old is not None:
        log.append(workspace, [rotation(old, new)])
    keys.install(workspace, path, replace=True)
    replaced = log.Event(secrets.token_hex(16), REPLACED, commitment=new.key_id.removeprefix("sha256:"))
    log.append(workspace, [replaced] if old is None else [])  # the tree head is signed anew
    return new


def rotation(old: SigningKey, new: PublicKey) -> log.Event:
    """Return the event by which the old key names the one that follows it."""
    data = {
        "old": old.public.key_id,
        "new": base64.b64encode(new.pem).decode(),
    }
    signature = old.sign(dsse.pae(ROTATION_TYPE, log.canonical(data)))
    digest = new.key_id.removeprefix("sha256:")
    return log.Event(
        digest, log.ROTATED, commitment=digest, data={**data, "sig": base64.b64encode(signature).decode()}
    )


def successors(entries: Sequence[log.Entry], trusted: PublicKey) -> dict[str, PublicKey]:
    """Return, by id, the trusted key and those that it names as following it, directly or in steps."""
    found = {trusted.key_id: trusted}
    for entry in entries:
        data = entry.event.data or {}
        signer = found.get(data.get("old", ""))
        if entry.event.kind != log.ROTATED or signer is None:
            continue
        try:
            signature = base64.b64decode(data["sig"], validate=True)
            raw = load_pem_public_key(base64.b64decode(data["new"], validate=True))
        except (KeyError, TypeError, ValueError, UnsupportedAlgorithm):
            continue
        signed = {k: data[k] for k in ("old", "new")}
        if isinstance(raw, Ed25519PublicKey) and signer.holds(
            signature, dsse.pae(ROTATION_TYPE, log.canonical(signed))
        ):
            with contextlib.suppress(ValueError):  # a key under which anybody can sign
                key = PublicKey(raw)
                found[key.key_id] = key
    return found
