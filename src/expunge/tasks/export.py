# SPDX-License-Identifier: AGPL-3.0-or-later
"""Export by Ultralytics without installs, network or telemetry, and inference on the exported files."""

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
from expunge.tasks.loaded_model import LoadedModel
from expunge.tasks.quiet import load_ultralytics
from expunge.tasks.weights import pack
from expunge.tasks.yolo import samples_of
from expunge.training.random_state import isolated_rng

if TYPE_CHECKING:
    from expunge.data.types import DatasetConfig, Sample

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
LEAST_SCORE = 1e-3  # Ultralytics' validation drops boxes below it as well


def export_model(loaded: LoadedModel, form: str, folder: Path) -> Path:
    """Export a model and return the exported file or folder.

    The export contains no training record (paths, data) of the weights file.

    Args:
        loaded: The model.
        form: ``onnx``, ``openvino`` or ``torchscript``.
        folder: An empty folder to work in.

    Raises:
        ExpungeError: If Ultralytics fails.
    """
    source = folder / "model.pt"
    source.write_bytes(pack(loaded.module, {"task": loaded.task, "imgsz": loaded.imgsz}))
    with _no_installs(), isolated_rng(), contextlib.redirect_stdout(sys.stderr):
        if form == "openvino":
            load_openvino()
        settings = {"simplify": False} if form == "onnx" else {}
        try:
            model = load_ultralytics().YOLO(str(source))
            exported = Path(model.export(format=form, imgsz=loaded.imgsz, device="cpu", **settings))
        except Exception as error:
            raise ExpungeError(
                f"The export to {form} failed.",
                f"Ultralytics reported: {next(iter(str(error).strip().splitlines()), type(error).__name__)}",
                "Check that the packages of the extra fit this Ultralytics, or take another format.",
            ) from error
    source.unlink()
    return exported


@contextlib.contextmanager
def _no_installs() -> Iterator[None]:
    """Keep Ultralytics from installing packages, whatever the user's environment variables allow."""
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
    """Import OpenVINO without its telemetry package; it then uses a stub that sends nothing."""
    sys.modules["openvino_telemetry"] = cast(Any, None)
    import openvino

    return openvino


def load_export(form: str, path: Path) -> Run:
    """Return a function that maps pictures (1, 3, S, S) in 0–1 to the first output of an export."""
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
    with warnings.catch_warnings():  # the user requested this format, although torch deprecates it
        warnings.simplefilter("ignore", FutureWarning)
        script = cast(Any, torch.jit).load(str(path), map_location="cpu").eval()
    return lambda x: _first_output(script(torch.from_numpy(x)))


def export_difference(
    loaded: LoadedModel,
    run: Run,
    root: Path,
    config: DatasetConfig,
    samples: Sequence[Sample],
) -> float:
    """Return the largest difference between an export's outputs and its source model's on real pictures.

    Scores are in 0–1 and coordinates in image sides, so one number covers both. If a head selects its best
    boxes, each box of either output is compared with the nearest box of the other, since equal scores have no
    fixed order. Boxes close to the selection threshold and scores below 0.001 are ignored.

    Raises:
        InputError: If a file differs from the manifest, or the model lacks a class.
    """
    data = samples_of(loaded, root, config, samples)
    model = loaded.module.eval()
    worst = 0.0
    for index in range(len(data)):
        image = data[index]["img"]
        x = (image.float() / 255 if image.dtype == torch.uint8 else image.float())[None]
        with torch.no_grad():
            expected = _first_output(model(x))
        actual = run(x.numpy())
        if expected.shape != actual.shape or not np.isfinite(actual).all():
            return float("inf")
        worst = max(worst, _difference(expected, actual, loaded))
    return worst


def _first_output(output: Any) -> NDArray[np.float32]:
    while isinstance(output, (list, tuple)):
        output = output[0]
    return np.asarray(output.detach().numpy())


def _difference(expected: NDArray[np.float32], actual: NDArray[np.float32], loaded: LoadedModel) -> float:
    if loaded.task == "classify":
        return float(np.abs(expected - actual).max())
    if not (
        expected.ndim == 3 and expected.shape[2] == 6
    ):  # (1, 4 + classes, anchors): every anchor in its place
        scale = np.ones((1, expected.shape[1], 1), np.float32)
        scale[:, :4] = loaded.imgsz
        return float((np.abs(expected - actual) / scale).max())
    scale = np.array([*[loaded.imgsz] * 4, 1, 1], np.float32)
    return max(
        _largest_distance(expected[0] / scale, actual[0] / scale),
        _largest_distance(actual[0] / scale, expected[0] / scale),
    )


def _largest_distance(rows: NDArray[np.float32], others: NDArray[np.float32]) -> float:
    """Return the largest distance of a row (x1, y1, x2, y2, score, class) to its nearest other row."""
    threshold = max(LEAST_SCORE, float(rows[:, 4].min()) + LEAST_SCORE)
    relevant = rows[rows[:, 4] > threshold]
    if not len(relevant):
        return 0.0
    return float(np.abs(relevant[:, None] - others[None]).max(axis=2).min(axis=1).max())
