# SPDX-License-Identifier: Apache-2.0
"""Probes of an audit on YOLO models: an export gives the same losses, weights are rounded, it relearns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tasks import yolo_kit as kit

from expunge.unlearning.exported import exported
from expunge.unlearning.judging import losses_of
from expunge.unlearning.linear import features_of
from expunge.unlearning.quantised import quantised
from expunge.unlearning.relearn import MOST_STEPS, steps_to


@pytest.fixture(scope="module", params=["detect", "classify"])
def each(request: Any, tmp_path_factory: pytest.TempPathFactory) -> kit.Kit:
    """A YOLO26 in small, with both heads, and a classifier."""
    torch.set_num_threads(1)
    return kit.make(tmp_path_factory.mktemp(request.param), request.param)


def test_the_probes_work_on_yolo(each: kit.Kit) -> None:
    pytest.importorskip("onnxruntime")
    task, data = each.task, each.data
    model = task.clone(each.opened.module)
    before = kit.statistics(model)
    plain = losses_of(task, model, data)
    assert np.allclose(losses_of(task, exported(task, model), data), plain, rtol=1e-3, atol=1e-3)
    rounded = losses_of(task, quantised(task, model), data)
    assert not np.array_equal(rounded, plain)
    assert np.isfinite(rounded).all()
    assert features_of(task, model, data).shape[0] == len(data)
    start = float(plain.mean())
    assert 0 < steps_to(task, model, data, 0.95 * start) < MOST_STEPS
    assert kit.equal(before, kit.statistics(model))
    assert np.array_equal(losses_of(task, model, data), plain)
