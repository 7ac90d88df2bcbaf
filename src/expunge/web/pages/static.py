# SPDX-License-Identifier: Apache-2.0
"""The desk's own files: a fixed list, read once, so that no address leads to anything else."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter
from starlette.responses import Response

from expunge.errors import NotFound

NAMES = {
    "desk.css": "text/css",
    "desk.js": "text/javascript",
    "icon.svg": "image/svg+xml",
    "vendor/htmx.min.js": "text/javascript",
    "vendor/htmx.LICENSE": "text/plain",
}
FILES: dict[str, tuple[bytes, str]] = {
    name: (files("expunge.web").joinpath("static", name).read_bytes(), kind) for name, kind in NAMES.items()
}
router = APIRouter()


@router.get("/static/{name:path}")
def static(name: str) -> Response:
    """A file of the desk's own; there is nothing in them that only some may see."""
    if name not in FILES:
        raise NotFound("There is no such file.")
    content, kind = FILES[name]
    return Response(content, media_type=kind)
