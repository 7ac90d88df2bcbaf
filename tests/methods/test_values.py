# SPDX-License-Identifier: Apache-2.0
"""Values of hyperparameters are checked before any work."""

from __future__ import annotations

from typing import Any

import pytest

from expunge.errors import InputError
from expunge.methods.base import all_methods

NUMBERS = [
    (method.name, name, default)
    for method in all_methods().values()
    for name, default in method.hyperparameters.items()
    if isinstance(default, (int, float))
]


@pytest.mark.parametrize(("method", "name", "default"), NUMBERS)
def test_invalid_values_are_refused(method: str, name: str, default: Any) -> None:
    wrong: list[Any] = ["0.1", None, [1], float("nan"), float("inf"), -1]
    if not isinstance(default, bool):
        wrong.append(True)
        all_methods()[method].check_known({name: default})
    for value in wrong:
        with pytest.raises(InputError, match=f"'{name}'"):
            all_methods()[method].check_known({name: value})


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(InputError, match="at least 1"):
        all_methods()["finetune"].check_known({"batch": 0})
    for nothing in ({"epochs": 0}, {"lr": 0}):
        with pytest.raises(InputError, match="cannot be 0"):
            all_methods()["finetune"].check_known(nothing)
