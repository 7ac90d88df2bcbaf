# SPDX-License-Identifier: Apache-2.0
"""The demo: a face detector that forgets a person, told on real faces and ending in a report."""
