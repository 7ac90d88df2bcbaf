# SPDX-License-Identifier: Apache-2.0
"""The pages, for people who work in a browser.

``router`` holds their routes. ``problem_page(request, problem)``, if it is here, shows an error that is not
the API's; without it an error is JSON.
"""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(include_in_schema=False)
