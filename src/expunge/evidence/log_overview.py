# SPDX-License-Identifier: Apache-2.0
"""Overview of the workspace's log: its signed tree head, and proof that entries were only appended.

Consistency proofs follow RFC 9162, section 2.1.4. Anyone who does not trust this machine can repeat the
checks elsewhere with ``expunge verify``, on copies of the log and of an earlier tree head.
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
    """Return the log's signed tree head and the checks of the whole log.

    Returns:
        ``size``, ``root``, ``signed_at``, ``key`` (None if there is no tree head) and ``checks``.
    """
    content, head = _content(workspace)
    result: dict[str, Any] = {"size": 0, "root": None, "signed_at": None, "key": None, "checks": []}
    if not content:
        return result
    checks = check_log(content, head, None, trusted_keys(workspace), None)
    result["checks"] = [c.as_json() for c in checks if c.name != "consistency"]
    if head is not None:
        try:
            parsed = log.parse_head(head)
        except ValueError:  # the checks report the error
            return result
        key = parsed.envelope.key_id
        result |= {"size": parsed.size, "root": parsed.root, "signed_at": parsed.time, "key": key}
    return result


def consistency(workspace: Workspace, earlier: bytes) -> list[dict[str, Any]]:
    """Check that the log continues the log that an earlier tree head signed.

    Args:
        workspace: The workspace of the log.
        earlier: The bytes of the earlier tree head.

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
