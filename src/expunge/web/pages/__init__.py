# SPDX-License-Identifier: Apache-2.0
"""The pages, for people who work in a browser.

``router`` holds their routes. ``problem_page(request, problem)`` shows an error that is not the API's.
"""

from __future__ import annotations

from fastapi import APIRouter

from expunge.web.pages import (
    evidence,
    log_page,
    models_page,
    people,
    pictures,
    queue,
    request_page,
    signing_in,
    static,
)
from expunge.web.pages.view import problem_page

__all__ = ["problem_page", "router"]

router = APIRouter(include_in_schema=False)
for part in (static, signing_in, queue, request_page, evidence, pictures, models_page, log_page, people):
    router.include_router(part.router, include_in_schema=False)
