# SPDX-License-Identifier: Apache-2.0
"""The auditor's error rates: many trials, each with a new split, a new original and new references."""
