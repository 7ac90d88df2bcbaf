# SPDX-License-Identifier: Apache-2.0
"""Documents that are made to be handed out (report, audit), shown as they are, and allowed to do nothing."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256

from starlette.responses import HTMLResponse, Response

STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


def document(text: str, file: str | None = None) -> Response:
    """Return a document under a policy of its own: its own style sheet by its hash, and nothing else.

    Args:
        text: HTML that holds its style sheets.
        file: Under which name to save it; None: show it.
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
    """Return the header that saves an answer under a name of ours."""
    return {"Content-Disposition": f'attachment; filename="{file}"'}
