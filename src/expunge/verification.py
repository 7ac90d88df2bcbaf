# SPDX-License-Identifier: Apache-2.0
"""``expunge.verify``: what ``expunge verify`` does, as a function."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.progress import Progress

if TYPE_CHECKING:
    from expunge.workspace import Workspace


def verify(
    target: str | Path,
    *,
    workspace: Workspace | None = None,
    public_key: str | Path | None = None,
    log: str | Path | None = None,
    tree_head: str | Path | None = None,
    replay: bool = False,
) -> dict[str, Any]:
    """Verify a certificate file, a request id, or ``MODEL[@V]``.

    Args:
        target: What to verify. A certificate needs no workspace, but then a public key.
        workspace: For the checks that compare with what is known there, and for a replay.
        public_key: PEM file of the key to trust; without it the keys that the workspace records.
        log: A copy of the signer's log; without it the workspace's.
        tree_head: A tree head of the log that was kept from before.
        replay: Train again from what is retained, and compare digests.

    Returns:
        ``valid`` (no check failed, and at least one held) and ``checks``: a list of ``name``, ``ok`` (True,
        False, or None where it could not be checked) and ``detail``.

    Raises:
        InputError: If the target is none of these, or there is no key to verify with.
    """
    from expunge.evidence import verify as evidence

    key, copy, head = (Path(p) if p is not None else None for p in (public_key, log, tree_head))
    means = evidence.Means(key, copy, head, replay)
    return evidence.verify(workspace, str(target), means, Progress(quiet=True))
