# SPDX-License-Identifier: Apache-2.0
"""Probes: views of a model other than its plain outputs."""
