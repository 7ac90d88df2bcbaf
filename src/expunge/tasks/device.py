# SPDX-License-Identifier: Apache-2.0
"""Devices by the names that users give: ``cpu``, ``cuda``, ``0``."""

from __future__ import annotations

import torch

from expunge.errors import InputError


def resolve_device(name: str | torch.device) -> torch.device:
    """Return the device of a name; a number selects a CUDA device, as in Ultralytics.

    Raises:
        InputError: If the device does not exist on this machine.
    """
    text = str(name).strip()
    try:
        device = torch.device(f"cuda:{text}" if text.isdigit() else text)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(
            f"There is no device '{text}' here.",
            str(error).strip().splitlines()[0],
            "Use --device cpu, or install the drivers that the device needs.",
        ) from error
    return device
