# SPDX-License-Identifier: Apache-2.0
"""Static files of the desk: a fixed list, read once, so that no address can lead to another file."""

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
    """Return a static file. These files need no permission."""
    if name not in FILES:
        raise NotFound("There is no such file.")
    content, kind = FILES[name]
    return Response(content, media_type=kind)
