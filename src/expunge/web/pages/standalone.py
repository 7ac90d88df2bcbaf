# SPDX-License-Identifier: Apache-2.0
"""Responses for self-contained documents (report, audit), under a policy that forbids everything else."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256

from starlette.responses import HTMLResponse, Response

STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


def document(text: str, file: str | None = None) -> Response:
    """Return a document under a content security policy that allows only its own style sheets, by hash.

    Args:
        text: HTML with inline style sheets.
        file: Name for saving the document. Default: show it.
    """
    hashes = (b64encode(sha256(style.encode()).digest()).decode() for style in STYLE.findall(text))
    allowed = " ".join(f"'sha256-{found}'" for found in hashes) or "'none'"
    policy = (
        f"default-src 'none'; img-src data:; style-src {allowed}; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'; sandbox"
    )
    headers = {"Content-Security-Policy": policy, "Cache-Control": "no-store"}
    return HTMLResponse(text, headers=headers | attached(file) if file else headers)


def attached(file: str) -> dict[str, str]:
    """Return the header that makes browsers save a response under a file name."""
    return {"Content-Disposition": f'attachment; filename="{file}"'}
