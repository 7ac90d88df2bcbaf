# SPDX-License-Identifier: Apache-2.0
"""Run unlearning methods within a budget, with a utility guard, rollback and a verdict."""
