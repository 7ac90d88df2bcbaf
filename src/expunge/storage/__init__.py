# SPDX-License-Identifier: Apache-2.0
"""Storage primitives: atomic file writes, digests, keyed hashes, locks."""
