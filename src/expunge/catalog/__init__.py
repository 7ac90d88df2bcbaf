# SPDX-License-Identifier: Apache-2.0
"""The database: tables, migrations, datasets, models and requests."""
