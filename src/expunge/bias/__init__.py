# SPDX-License-Identifier: Apache-2.0
"""Which groups a model serves worse, and which training data does the harm."""
