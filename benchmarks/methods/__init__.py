# SPDX-License-Identifier: Apache-2.0
"""Every method against retrained references, on several goals and seeds, with an equal budget for tuning."""
