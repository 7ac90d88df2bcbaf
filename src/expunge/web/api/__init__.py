# SPDX-License-Identifier: Apache-2.0
"""The REST API under ``/api/v1``: thin routes, each with its schema and the permission that it requires."""

from __future__ import annotations

from fastapi import APIRouter

from expunge.web.api import accounts, data, evidence, jobs, near_duplicates, own_account, requests

router = APIRouter(prefix="/api/v1")
for part in (own_account, requests, near_duplicates, data, evidence, jobs, accounts):
    router.include_router(part.router)
