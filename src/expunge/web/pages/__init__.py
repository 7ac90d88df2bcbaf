# SPDX-License-Identifier: Apache-2.0
"""The HTML pages of the desk.

``router`` holds their routes. ``problem_page(request, problem)`` returns the page of an error.
"""

from __future__ import annotations

from fastapi import APIRouter

from expunge.web.pages import (
    account_pages,
    evidence,
    image_pages,
    log_page,
    models_page,
    queue,
    request_page,
    signing_in,
    static,
)
from expunge.web.pages.view import problem_page

__all__ = ["problem_page", "router"]

router = APIRouter(include_in_schema=False)
for part in (
    static,
    signing_in,
    queue,
    request_page,
    evidence,
    image_pages,
    models_page,
    log_page,
    account_pages,
):
    router.include_router(part.router, include_in_schema=False)
