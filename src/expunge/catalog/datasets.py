# SPDX-License-Identifier: Apache-2.0
"""Datasets in the catalog: what others may call; each part of it has a file of its own."""

from __future__ import annotations

from expunge.catalog.arrivals import add_version
from expunge.catalog.erasures import erase, rows_taken
from expunge.catalog.names import parse_ref
from expunge.catalog.selection import Selection, resolve_selection
from expunge.catalog.versions import (
    count_left,
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
    "count_left",
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
    "rows_taken",
    "subject_risks",
    "summarize",
]
