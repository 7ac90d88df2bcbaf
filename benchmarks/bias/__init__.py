# SPDX-License-Identifier: Apache-2.0
"""Does forgetting harmful data make a model fairer? Three kinds of harm, put in on purpose."""
