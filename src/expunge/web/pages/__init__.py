# SPDX-License-Identifier: Apache-2.0
"""The pages, for people who work in a browser."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(include_in_schema=False)
