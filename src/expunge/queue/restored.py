# SPDX-License-Identifier: Apache-2.0
"""Brings a workspace that was restored from a backup up to date: who was erased since is erased again.

The later catalog is lost; what is known of it lies outside (:mod:`expunge.evidence.anchor`): that there was
more, and keyed digests of whom it erased. The requests of then, their certificates and dates are not brought
back: their entries are in the copies of the log that others keep.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from expunge.catalog.tables import SuppressionRow
from expunge.errors import InputError
from expunge.evidence import anchor, log
from expunge.pipeline import Order, execute
from expunge.progress import Progress
from expunge.queue.intake import actor_name, new_id
from expunge.steps.scoping import Ask

if TYPE_CHECKING:
    from expunge.workspace import Workspace

RESTORED = "restored"  # the log's event; it commits to the root of the log that was lost


def describe(workspace: Workspace) -> dict[str, Any]:
    """Say what came back with a backup; nothing is changed."""
    found = anchor.returned(workspace)
    unfinished = (workspace.root / anchor.MARKER).exists()
    return {
        "restored": unfinished or anchor.behind(workspace) is not None,
        "reason": anchor.behind(workspace),
        "subjects": sum(kind == "subject" for kind, _, _ in found),
        "samples": sum(kind == "sample" for kind, _, _ in found),
    }


def erase_again(workspace: Workspace, progress: Progress, actor: str | None = None) -> dict[str, Any]:
    """Take over the suppression list, continue the log with an entry that says so, and erase who came back.

    Each step can be repeated: a process that dies leaves a marker, and nothing but this goes on.

    Returns:
        What :func:`describe` said, and ``requests``: the outcomes, in the form of ``forget --json``.

    Raises:
        InputError: If the workspace is not older than what is known of it.
    """
    said, marker, who = describe(workspace), workspace.root / anchor.MARKER, actor_name(actor)
    if not said["restored"]:
        raise InputError("This workspace was not restored from a backup.", "It is what it was last.", "")
    marker.touch(mode=0o600)
    outcomes: list[dict[str, Any]] = []
    with anchor.restoring():
        lost = anchor.known(workspace)
        found = anchor.returned(workspace)
        _take_over(workspace)
        if anchor.behind(workspace) is not None and lost is not None:
            log.append(workspace, [log.Event(secrets.token_hex(16), RESTORED, commitment=lost.root)])
        for dataset in sorted({dataset for _, dataset, _ in found}):
            mine = [(kind, value) for kind, name, value in found if name == dataset]
            ask = Ask(
                subjects=tuple(value for kind, value in mine if kind == "subject"),
                samples=tuple(value for kind, value in mine if kind == "sample"),
                dataset=dataset,
            )
            order = Order(new_id(), ask, queued=False)  # it was approved then: nobody has to approve it again
            outcomes += execute(workspace, [order], progress, time.monotonic(), who)
    marker.unlink()
    return {**said, "requests": outcomes}


def _take_over(workspace: Workspace) -> None:
    """Add to the catalog's suppression list what only the list outside has."""
    with workspace.session(write=True) as session:
        have = set(session.scalars(select(SuppressionRow.mac)))
        for kind, mac, request in anchor.suppression(workspace):
            if mac not in have:
                session.add(SuppressionRow(kind=kind, mac=mac, request_id=request))
