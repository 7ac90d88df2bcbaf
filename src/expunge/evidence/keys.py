# SPDX-License-Identifier: Apache-2.0
"""The two kinds of keys, under the name by which other programs import them."""

from __future__ import annotations

from expunge.evidence.key_material import PublicKey, SigningKey

__all__ = ["PublicKey", "SigningKey"]
