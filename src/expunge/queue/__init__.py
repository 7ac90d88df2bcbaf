# SPDX-License-Identifier: Apache-2.0
"""A request's life outside the pipeline: taken in, decided, batched, repaired, held, left out, restored."""
