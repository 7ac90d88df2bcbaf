# SPDX-License-Identifier: Apache-2.0
"""The keyed digests of the suppression list. Imports no database."""

from __future__ import annotations

import hmac
import json


def suppression_mac(key: bytes, kind: str, dataset: str, value: str) -> str:
    """Return the keyed digest of a subject id, a path or an image digest.

    Args:
        key: The workspace's own secret.
        kind: ``subject``, ``sample`` (its path), ``image`` (its bytes' digest) or ``decoded`` (its pixels').
        dataset: Name of the dataset; without meaning for images, which are the same everywhere.
        value: The id, path or digest.
    """
    scope = "" if kind in ("image", "decoded") else dataset
    return hmac.digest(key, json.dumps([kind, scope, value]).encode(), "sha256").hex()
