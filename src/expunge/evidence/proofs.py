# SPDX-License-Identifier: Apache-2.0
"""The workspace's log for people to look at: what was signed of it, and that it only ever grew.

Consistency is RFC 9162's (section 2.1.4). It is verified here; whoever does not trust this machine repeats it
with ``expunge verify`` on copies of the log and of a tree head that was kept elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from expunge.evidence import log
from expunge.evidence.check import Check
from expunge.evidence.offline import check_log
from expunge.evidence.trust import trusted_keys

if TYPE_CHECKING:
    from expunge.workspace import Workspace


def overview(workspace: Workspace) -> dict[str, Any]:
    """Return the log's signed head and what checking the whole log finds.

    Returns:
        ``size``, ``root``, ``signed_at``, ``key`` (None where there is no head) and ``checks``.
    """
    content, head = _content(workspace)
    shown: dict[str, Any] = {"size": 0, "root": None, "signed_at": None, "key": None, "checks": []}
    if not content:
        return shown
    found = check_log(content, head, None, trusted_keys(workspace), None)
    shown["checks"] = [c.as_json() for c in found if c.name != "consistency"]
    if head is not None:
        try:
            stated = log.parse_head(head)
        except ValueError:  # what is wrong with it stands in the checks
            return shown
        key = stated.envelope.key_id
        shown |= {"size": stated.size, "root": stated.root, "signed_at": stated.time, "key": key}
    return shown


def consistency(workspace: Workspace, earlier: bytes) -> list[dict[str, Any]]:
    """Check that the log continues the one that an earlier tree head signed.

    Args:
        workspace: Whose log.
        earlier: The bytes of a tree head that somebody kept.

    Returns:
        Checks, as ``expunge verify --json`` prints them.
    """
    content, head = _content(workspace)
    checks: Sequence[Check] = check_log(content or b"", head, earlier, trusted_keys(workspace), None)
    return [check.as_json() for check in checks]


def _content(workspace: Workspace) -> tuple[bytes | None, bytes | None]:
    folder = workspace.root / "log"
    files = (folder / log.ENTRIES, folder / log.HEAD)
    content, head = (file.read_bytes() if file.is_file() else None for file in files)
    return content, head
