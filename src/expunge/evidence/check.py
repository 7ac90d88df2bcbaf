# SPDX-License-Identifier: Apache-2.0
"""The answer to one question of a verification."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Check:
    """One question and its answer: True, False, or None where it could not be checked."""

    name: str
    ok: bool | None
    detail: str

    def as_json(self) -> dict[str, Any]:
        """Return the check as outsiders read it."""
        return {"name": self.name, "ok": self.ok, "detail": self.detail}
