# SPDX-License-Identifier: Apache-2.0
"""Repeats, in a workspace restored from a backup, the erasures that were made after the backup.

The later catalog is lost. The anchor outside the workspace (:mod:`expunge.evidence.anchor`) keeps the root
of its log and keyed digests of the erased subjects and samples. The later requests, their certificates and
dates are not recovered: their entries are in the copies of the log that others keep.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from expunge.catalog.tables import SuppressionRow
from expunge.erasure.execution import QueuedRequest, execute
from expunge.erasure.intake import actor_name, new_id
from expunge.erasure.scope import ErasureRequest
from expunge.errors import InputError
from expunge.evidence import anchor, log, log_writer
from expunge.progress import Progress

if TYPE_CHECKING:
    from expunge.workspace import Workspace

RESTORED = "restored"  # log event that commits to the root of the lost log


def restore_status(workspace: Workspace) -> dict[str, Any]:
    """Return whether the workspace was restored, and how many erased subjects and samples came back.

    Nothing is changed.
    """
    found = anchor.restored_rows(workspace)
    unfinished = (workspace.root / anchor.MARKER).exists()
    return {
        "restored": unfinished or anchor.why_outdated(workspace) is not None,
        "reason": anchor.why_outdated(workspace),
        "subjects": sum(kind == "subject" for kind, _, _ in found),
        "samples": sum(kind == "sample" for kind, _, _ in found),
    }


def erase_again(workspace: Workspace, progress: Progress, actor: str | None = None) -> dict[str, Any]:
    """Restore the suppression list, continue the log with an event, and erase the returned data again.

    Each step can be repeated: an interrupted run leaves a marker that blocks all other commands.

    Args:
        workspace: The restored workspace.
        progress: Receives progress reports.
        actor: Name of the person who acts; None: the user of the operating system.

    Returns:
        The fields of :func:`describe`, and ``requests``: the outcomes, in the form of ``forget --json``.

    Raises:
        InputError: If the workspace was not restored from a backup.
    """
    status, marker, who = restore_status(workspace), workspace.root / anchor.MARKER, actor_name(actor)
    if not status["restored"]:
        raise InputError("This workspace was not restored from a backup.", "It is up to date.", "")
    marker.touch(mode=0o600)
    outcomes: list[dict[str, Any]] = []
    with anchor.restoring():
        lost = anchor.load_state(workspace)
        found = anchor.restored_rows(workspace)
        _restore_suppression_list(workspace)
        if anchor.why_outdated(workspace) is not None and lost is not None:
            log_writer.append(workspace, [log.Event(secrets.token_hex(16), RESTORED, commitment=lost.root)])
        for dataset in sorted({dataset for _, dataset, _ in found}):
            in_dataset = [(kind, value) for kind, name, value in found if name == dataset]
            request = ErasureRequest(
                subjects=tuple(value for kind, value in in_dataset if kind == "subject"),
                samples=tuple(value for kind, value in in_dataset if kind == "sample"),
                dataset=dataset,
            )
            # No approval is needed: the lost request was approved.
            queued = QueuedRequest(new_id(), request, queued=False)
            outcomes += execute(workspace, [queued], progress, time.monotonic(), who)
    marker.unlink()
    return {**status, "requests": outcomes}


def _restore_suppression_list(workspace: Workspace) -> None:
    """Add the entries of the suppression list outside the workspace that the catalog lacks."""
    with workspace.session(write=True) as session:
        known = set(session.scalars(select(SuppressionRow.mac)))
        for kind, mac, request in anchor.suppression(workspace):
            if mac not in known:
                session.add(SuppressionRow(kind=kind, mac=mac, request_id=request))
