# SPDX-License-Identifier: Apache-2.0
"""Public interface to the datasets in the catalog."""

from __future__ import annotations

from expunge.catalog.erasures import erase, rows_to_erase
from expunge.catalog.ingest import add_version
from expunge.catalog.names import parse_ref
from expunge.catalog.selection import Selection, resolve_selection
from expunge.catalog.versions import (
    count_retained,
    find_subject,
    get_dataset,
    get_version,
    iter_samples,
    list_datasets,
    load_erased,
    load_samples,
    subject_risks,
    summarize,
)

__all__ = [
    "Selection",
    "add_version",
    "count_retained",
    "erase",
    "find_subject",
    "get_dataset",
    "get_version",
    "iter_samples",
    "list_datasets",
    "load_erased",
    "load_samples",
    "parse_ref",
    "resolve_selection",
    "rows_to_erase",
    "subject_risks",
    "summarize",
]
