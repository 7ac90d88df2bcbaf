# SPDX-License-Identifier: Apache-2.0
"""``expunge.verify``: the command ``expunge verify`` as a function."""

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
        target: What to verify. A certificate file needs no workspace, but then a public key.
        workspace: For checks against its catalog, and for a replay.
        public_key: PEM file of the key to trust; None: the keys that the workspace records.
        log: A copy of the signer's log; None: the workspace's log.
        tree_head: An earlier tree head of the log.
        replay: Train again on the retained data, and compare digests.

    Returns:
        ``valid`` (no check failed, and at least one passed) and ``checks``: a list of ``name``, ``ok`` (True,
        False, or None if it could not be checked) and ``detail``.

    Raises:
        InputError: If the target is none of these, or there is no key to verify with.
    """
    from expunge.evidence import verifier

    key, copy, head = (Path(p) if p is not None else None for p in (public_key, log, tree_head))
    options = verifier.VerifyOptions(key, copy, head, replay)
    return verifier.verify(workspace, str(target), options, Progress(quiet=True))
