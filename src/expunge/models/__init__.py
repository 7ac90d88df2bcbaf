# SPDX-License-Identifier: Apache-2.0
"""Models of a workspace: training, adoption, status, lineage and export."""
