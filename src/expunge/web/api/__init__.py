# SPDX-License-Identifier: Apache-2.0
"""The REST API under ``/api/v1``: thin routes, each with its schema and the permission that it takes."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(prefix="/api/v1")
