# SPDX-License-Identifier: Apache-2.0
"""Rotation of the signing key: the old key signs a log entry that names the new key.

A verifier who trusts the old key follows this chain to the new one. A lost key cannot name a successor: the
log then records that the key was replaced, and verifiers need the new public key from the signer. A stolen
key can name any successor, so verifiers must be told to distrust it.
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
from expunge.evidence import dsse, key_store, log, log_writer
from expunge.evidence.key_store import PublicKey, SigningKey

if TYPE_CHECKING:
    from expunge.workspace import Workspace

ROTATION_TYPE = "application/vnd.expunge.key-rotation+json"
REPLACED = "key-replaced"


def rotate(workspace: Workspace, path: Path | None = None, *, lost: bool = False) -> PublicKey:
    """Replace the workspace's signing key; earlier signatures and public keys are kept.

    Args:
        workspace: The workspace whose key changes.
        path: The new private key, PEM; None: generate one.
        lost: The old key is lost, so it cannot name the new one.

    Returns:
        The new public key.

    Raises:
        InputError: If the new key is the current one, or cannot be used.
        StorageError: If the old key cannot be read and ``lost`` is not set.
    """
    old = None if lost else key_store.signing_key(workspace)
    path = key_store.generate() if path is None else path
    new = key_store.read_private(path).public
    if key_store.recorded_id(workspace) == new.key_id:
        raise InputError("This is the present key already.", "", "Give another one, or none to make one.")
    if old is not None:
        log_writer.append(workspace, [rotation(old, new)])
    key_store.install(workspace, path, replace=True)
    replaced = log.Event(secrets.token_hex(16), REPLACED, commitment=new.key_id.removeprefix("sha256:"))
    log_writer.append(workspace, [replaced] if old is None else [])  # also signs a new tree head
    return new


def rotation(old: SigningKey, new: PublicKey) -> log.Event:
    """Return the log event in which the old key names its successor."""
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
    """Return the trusted key and its direct and indirect successors, by id."""
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
            with contextlib.suppress(ValueError):  # a weak key, with which anyone could sign
                key = PublicKey(raw)
                found[key.key_id] = key
    return found
