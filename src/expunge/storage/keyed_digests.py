# SPDX-License-Identifier: Apache-2.0
"""Keyed digests of the suppression list. This module does not import the database."""

from __future__ import annotations

import hmac
import json


def suppression_mac(key: bytes, kind: str, dataset: str, value: str) -> str:
    """Return the keyed digest (HMAC-SHA256, hex) of a subject id, a path or an image digest.

    Args:
        key: The workspace's secret.
        kind: ``subject``, ``sample`` (path), ``image`` (digest of the bytes) or ``decoded`` (digest of the
            pixels).
        dataset: Name of the dataset. Ignored for ``image`` and ``decoded``, which match in every dataset.
        value: The id, path or digest.
    """
    scope = "" if kind in ("image", "decoded") else dataset
    return hmac.digest(key, json.dumps([kind, scope, value]).encode(), "sha256").hex()
