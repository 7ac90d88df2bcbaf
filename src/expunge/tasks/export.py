# SPDX-License-Identifier: AGPL-3.0-or-later
"""Ultralytics' exporter without installs, network and telemetry; and what runs the files that it makes."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from expunge.errors import ExpungeError
from expunge.exact.trainer import isolated_rng
from expunge.tasks.quiet import load_ultralytics
from expunge.tasks.weights import pack
from expunge.tasks.yolo import Opened, samples_of

if TYPE_CHECKING:
    from expunge.data.types import DatasetConfig, Sample

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
LEAST_SCORE = 1e-3  # boxes below it are noise of the head: Ultralytics' own validation drops them, too


def export_model(opened: Opened, form: str, folder: Path) -> Path:
    """Write a model in another format and return its file, or its folder of files.

    Nothing that the file says of its training (paths, data) gets into the export.

    Args:
        opened: The model.
        form: ``onnx``, ``openvino`` or ``torchscript``.
        folder: An empty folder to work in.

    Raises:
        ExpungeError: If Ultralytics fails; nothing of use is in the folder then.
    """
    source = folder / "model.pt"
    source.write_bytes(pack(opened.module, {"task": opened.task, "imgsz": opened.imgsz}))
    with _no_installs(), isolated_rng(), contextlib.redirect_stdout(sys.stderr):
        if form == "openvino":
            load_openvino()
        settings = {"simplify": False} if form == "onnx" else {}
        try:
            plain = load_ultralytics().YOLO(str(source))
            made = Path(plain.export(format=form, imgsz=opened.imgsz, device="cpu", **settings))
        except Exception as error:
            raise ExpungeError(
                f"The export to {form} failed.",
                f"Ultralytics said: {next(iter(str(error).strip().splitlines()), type(error).__name__)}",
                "Check that the packages of the extra fit this Ultralytics, or take another format.",
            ) from error
    source.unlink()
    return made


@contextlib.contextmanager
def _no_installs() -> Iterator[None]:
    """See to it that Ultralytics installs nothing, whatever the user's own variables allow."""
    load_ultralytics()
    from ultralytics.utils import checks as library

    checks = cast(Any, library)
    before = checks.AUTOINSTALL
    checks.AUTOINSTALL = False
    try:
        yield
    finally:
        checks.AUTOINSTALL = before


def load_openvino() -> Any:
    """Import OpenVINO without its telemetry package: it falls back to a stub that sends nothing."""
    sys.modules["openvino_telemetry"] = cast(Any, None)
    import openvino

    return openvino


def runner(form: str, path: Path) -> Run:
    """Return a function that runs an export: pictures (1, 3, S, S) in 0–1 to its first output."""
    if form == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda x: np.asarray(session.run(None, {name: x})[0])
    if form == "openvino":
        openvino = load_openvino()
        hint = {"INFERENCE_PRECISION_HINT": "f32"}
        compiled = openvino.Core().compile_model(str(next(path.glob("*.xml"))), "CPU", hint)
        return lambda x: np.asarray(compiled(x)[0])
    with warnings.catch_warnings():  # that the format is deprecated: its file is what was asked for
        warnings.simplefilter("ignore", FutureWarning)
        script = cast(Any, torch.jit).load(str(path), map_location="cpu").eval()
    return lambda x: _first(script(torch.from_numpy(x)))


def difference(
    opened: Opened,
    run: Run,
    root: Path,
    config: DatasetConfig,
    samples: Sequence[Sample],
) -> float:
    """Return the largest difference between an export and the weights it was made from, on real pictures.

    Scores are in 0–1 and coordinates in image sides, so that one number stands for both. Of a head that picks
    its best boxes, each box of either side is compared with the nearest of the other, since equal scores may
    come in any order; boxes at the edge of being picked are left out, as are scores below 0.001.

    Raises:
        InputError: If a file differs from the manifest, or the model lacks a class.
    """
    data = samples_of(opened, root, config, samples)
    model = opened.module.eval()
    worst = 0.0
    for index in range(len(data)):
        image = data[index]["img"]
        x = (image.float() / 255 if image.dtype == torch.uint8 else image.float())[None]
        with torch.no_grad():
            ours = _first(model(x))
        theirs = run(x.numpy())
        if ours.shape != theirs.shape or not np.isfinite(theirs).all():
            return float("inf")
        worst = max(worst, _difference(ours, theirs, opened))
    return worst


def _first(output: Any) -> NDArray[np.float32]:
    while isinstance(output, (list, tuple)):
        output = output[0]
    return np.asarray(output.detach().numpy())


def _difference(ours: NDArray[np.float32], theirs: NDArray[np.float32], opened: Opened) -> float:
    if opened.task == "classify":
        return float(np.abs(ours - theirs).max())
    if not (ours.ndim == 3 and ours.shape[2] == 6):  # (1, 4 + classes, anchors): every anchor in its place
        scale = np.ones((1, ours.shape[1], 1), np.float32)
        scale[:, :4] = opened.imgsz
        return float((np.abs(ours - theirs) / scale).max())
    scale = np.array([*[opened.imgsz] * 4, 1, 1], np.float32)
    return max(_one_way(ours[0] / scale, theirs[0] / scale), _one_way(theirs[0] / scale, ours[0] / scale))


def _one_way(rows: NDArray[np.float32], others: NDArray[np.float32]) -> float:
    """The farthest that a row's nearest other row is; a row is (x1, y1, x2, y2, score, class)."""
    edge = max(LEAST_SCORE, float(rows[:, 4].min()) + LEAST_SCORE)
    counted = rows[rows[:, 4] > edge]
    if not len(counted):
        return 0.0
    return float(np.abs(counted[:, None] - others[None]).max(axis=2).min(axis=1).max())
