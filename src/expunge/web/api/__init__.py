# SPDX-License-Identifier: Apache-2.0
"""The REST API under ``/api/v1``: thin routes, each with its schema and the permission that it takes."""

from __future__ import annotations

from fastapi import APIRouter

from expunge.web.api import accounts, data, evidence, jobs, lookalikes, people, requests

router = APIRouter(prefix="/api/v1")
for part in (people, requests, lookalikes, data, evidence, jobs, accounts):
    router.include_router(part.router)
