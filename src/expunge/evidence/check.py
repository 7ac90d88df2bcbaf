# SPDX-License-Identifier: Apache-2.0
"""The result of one verification check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Check:
    """A named check: ``ok`` is True (passed), False (failed) or None (could not be checked)."""

    name: str
    ok: bool | None
    detail: str

    def as_json(self) -> dict[str, Any]:
        """Return the check as a JSON object."""
        return {"name": self.name, "ok": self.ok, "detail": self.detail}
