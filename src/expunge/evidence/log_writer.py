# SPDX-License-Identifier: Apache-2.0
"""Append events to the transparency log and sign its new tree head."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from expunge.evidence import anchor, log
from expunge.evidence.key_store import signing_key
from expunge.storage.files import disk_errors, write_atomically

if TYPE_CHECKING:
    from expunge.workspace import Workspace


def append(workspace: Workspace, events: Sequence[log.Event]) -> None:
    """Append events to the workspace's log, then sign the new tree head.

    Each event is synced to disk; an event whose id is in the log already is skipped.

    Raises:
        InputError: If the log was damaged by something other than a crash, or a backup was restored.
        StorageError: If a file cannot be written.
    """
    key, folder = signing_key(workspace), workspace.folder("log")
    with log.locked(folder):
        anchor.check(workspace)
        content = log.content_of(folder / log.ENTRIES)
        lines, head = log.continued(folder, content, key.public)
        log.cut_torn(folder / log.ENTRIES, content)
        known = {found for line in lines for found in log.EVENT_ID.findall(line)}
        new_events = [event for event in events if event.id.encode() not in known]
        if new_events:
            added = [log.line_of(len(lines) + i, event) for i, event in enumerate(new_events)]
            with disk_errors("The log"), open(folder / log.ENTRIES, "ab") as file:
                for line in added:
                    file.write(line + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
            lines += added
        if lines and (head is None or head.size < len(lines)):
            envelope = log._sign(lines, key, None)
            write_atomically(folder / log.HEAD, envelope.as_bytes(), "The log's tree head")
            signed = log.parse_head(envelope.as_bytes())
            anchor.save_state(workspace, signed.size, signed.root, signed.time)
