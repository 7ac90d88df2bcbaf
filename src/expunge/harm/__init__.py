# SPDX-License-Identifier: Apache-2.0
"""Harmful data of a workspace: whom a model serves worse, which data did it, what forgetting it changed."""
