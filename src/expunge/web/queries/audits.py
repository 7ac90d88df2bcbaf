# SPDX-License-Identifier: Apache-2.0
"""Queries for audits. Each audit is a JSON file of figures, with an HTML page if one was written."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.errors import NotFound

if TYPE_CHECKING:
    from expunge.workspace import Workspace

NAME = re.compile(r"(?P<request>r-[0-9a-f]{16})-[A-Za-z0-9][A-Za-z0-9._-]*-[0-9]+-(quick|standard|full)")
SUMMARY_KEYS = (
    "model",
    "original",
    "request",
    "level",
    "verdict",
    "failure",
    "reasons",
    "n",
    "references",
    "seconds",
)


def audits(workspace: Workspace, request_id: str | None = None) -> list[dict[str, Any]]:
    """Return the audits, or those of one request, newest first, without their figures."""
    pattern = "*.json" if request_id is None else f"{request_id}-*.json"
    files = [f for f in workspace.audits.glob(pattern) if NAME.fullmatch(f.stem)]
    files.sort(key=lambda f: (-f.stat().st_mtime, f.name))
    return [_summary(file, json.loads(file.read_bytes())) for file in files]


def audit(workspace: Workspace, name: str) -> dict[str, Any]:
    """Return an audit with its figures.

    Raises:
        NotFound: If it does not exist.
    """
    file = _file(workspace, name, ".json")
    report = json.loads(file.read_bytes())
    return {**_summary(file, report), "figures": report["figures"], "utility": report["utility"]}


def audit_page(workspace: Workspace, name: str) -> str:
    """Return the HTML page of an audit, which has no scripts.

    Raises:
        NotFound: If it does not exist.
    """
    return _file(workspace, name, ".html").read_text(encoding="utf-8")


def _file(workspace: Workspace, name: str, suffix: str) -> Path:
    file = workspace.audits / f"{name}{suffix}"
    if not NAME.fullmatch(name) or not file.is_file():
        raise NotFound("There is no such audit.", "", "See the audits for their names.")
    return file


def _summary(file: Path, report: dict[str, Any]) -> dict[str, Any]:
    return {
        "audit": file.stem,
        **{key: report.get(key) for key in SUMMARY_KEYS},
        "page": file.with_suffix(".html").is_file(),
    }
