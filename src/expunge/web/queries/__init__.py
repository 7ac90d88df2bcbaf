# SPDX-License-Identifier: Apache-2.0
"""Read-only queries for the pages and the API: the queue, requests, models, datasets, evidence.

Lists hold counts, dates and states. Ids of subjects and paths of samples are returned only by the functions
that say so; their callers must check the permission.
"""

from __future__ import annotations

from expunge.web.queries.audits import audit, audit_page, audits
from expunge.web.queries.certificates import certificate, check_target, public_key, report, verify
from expunge.web.queries.datasets import class_names, dataset, dataset_names, datasets, picture, subjects
from expunge.web.queries.models import model, models
from expunge.web.queries.pages import Page
from expunge.web.queries.queue import count_overdue, counts, queue
from expunge.web.queries.request_history import check_runnable, request_details, request_selection, scope
from expunge.web.queries.transparency_log import log_page, proof

__all__ = [
    "Page",
    "audit",
    "audit_page",
    "audits",
    "certificate",
    "check_runnable",
    "check_target",
    "class_names",
    "count_overdue",
    "counts",
    "dataset",
    "dataset_names",
    "datasets",
    "log_page",
    "model",
    "models",
    "picture",
    "proof",
    "public_key",
    "queue",
    "report",
    "request_details",
    "request_selection",
    "scope",
    "subjects",
    "verify",
]
