# SPDX-License-Identifier: Apache-2.0
"""How the catalog came to its present shape, revision by revision."""
