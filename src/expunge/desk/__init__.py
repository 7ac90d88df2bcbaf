# SPDX-License-Identifier: Apache-2.0
"""What the desk shows, for its pages and its API alike: the queue, a request's story, models, data, evidence.

Nothing here changes anything. Lists hold counts, dates and states; ids of subjects and paths of samples are
given where a caller asks for them, who must have made sure that somebody may see them.
"""

from __future__ import annotations

from expunge.desk.audits import audit, audit_page, audits
from expunge.desk.certificates import (
    certificate,
    check_target,
    public_key,
    report,
    verify,
)
from expunge.desk.datasets import class_names, dataset, dataset_names, datasets, picture, subjects
from expunge.desk.journal import log_page, proof
from expunge.desk.models import model, models
from expunge.desk.pages import Page
from expunge.desk.queue import counts, late, queue
from expunge.desk.story import check_runnable, scope, selected, story

__all__ = [
    "Page",
    "audit",
    "audit_page",
    "audits",
    "certificate",
    "check_runnable",
    "check_target",
    "class_names",
    "counts",
    "dataset",
    "dataset_names",
    "datasets",
    "late",
    "log_page",
    "model",
    "models",
    "picture",
    "proof",
    "public_key",
    "queue",
    "report",
    "scope",
    "selected",
    "story",
    "subjects",
    "verify",
]
