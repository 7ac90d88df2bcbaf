# SPDX-License-Identifier: Apache-2.0
"""Audit probes on YOLO models: exports with equal losses, quantised weights, and relearning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tasks import yolo_kit

from expunge.audits.probes.exported import exported
from expunge.audits.probes.linear import features_of
from expunge.audits.probes.quantised import quantised
from expunge.audits.probes.relearn import MOST_STEPS, steps_to
from expunge.audits.quick import losses_of


@pytest.fixture(scope="module", params=["detect", "classify"])
def each(request: Any, tmp_path_factory: pytest.TempPathFactory) -> yolo_kit.Kit:
    """Return a small YOLO26 with both heads, or a classifier."""
    torch.set_num_threads(1)
    return yolo_kit.make(tmp_path_factory.mktemp(request.param), request.param)


def test_the_probes_work_on_yolo(each: yolo_kit.Kit) -> None:
    pytest.importorskip("onnxruntime")
    task, data = each.task, each.data
    model = task.clone(each.opened.module)
    before = yolo_kit.statistics(model)
    plain = losses_of(task, model, data)
    assert np.allclose(losses_of(task, exported(task, model), data), plain, rtol=1e-3, atol=1e-3)
    rounded = losses_of(task, quantised(task, model), data)
    assert not np.array_equal(rounded, plain)
    assert np.isfinite(rounded).all()
    assert features_of(task, model, data).shape[0] == len(data)
    start = float(plain.mean())
    assert 0 < steps_to(task, model, data, 0.95 * start) < MOST_STEPS
    assert yolo_kit.equal(before, yolo_kit.statistics(model))
    assert np.array_equal(losses_of(task, model, data), plain)
