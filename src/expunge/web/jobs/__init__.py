# SPDX-License-Identifier: Apache-2.0
"""Jobs: queued in the catalog and run by worker processes."""
