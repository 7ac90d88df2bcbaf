# SPDX-License-Identifier: Apache-2.0
"""Model families: how each is loaded, trained and scored. The only place that knows Ultralytics."""
