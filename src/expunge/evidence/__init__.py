# SPDX-License-Identifier: Apache-2.0
"""What an outsider can check: certificates and their verification."""
