# SPDX-License-Identifier: Apache-2.0
"""The steps that the pipeline tells: scope, execute exactly or approximately, audit, settle, certify."""
