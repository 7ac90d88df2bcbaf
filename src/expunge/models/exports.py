# SPDX-License-Identifier: Apache-2.0
"""Exports of published models to other formats, checked against the weights and recorded in the catalog.

An export is superseded together with its version: ``status`` recognises copies of its file, and a purge
deletes it. A superseded version is only exported if ``NAME@V`` names it, and with a warning.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.catalog import ancestry, derivatives, model_store
from expunge.catalog.dataset_store import get_version, load_samples, parse_ref
from expunge.catalog.model_store import ModelVersion
from expunge.catalog.tables import ModelVersionRow
from expunge.catalog.weights_state import WeightsState, state_of_weights
from expunge.errors import ExpungeError, InputError
from expunge.evidence import anchor
from expunge.storage.digest import file_digest
from expunge.storage.files import disk_errors

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from expunge.data.types import Sample, Version
    from expunge.workspace import Workspace

IMAGES = 8
TOLERANCE = 1e-3  # of a score, or as a fraction of an image's side
WEIGHTS = (".pt", ".pth")


@dataclass(frozen=True)
class Format:
    """An export format: the suffix of its files, the packages it needs, and the extra that installs them."""

    suffix: str
    packages: tuple[str, ...] = ()
    extra: str = ""


# Only formats that can be run here, and so checked against the weights.
FORMATS = {
    "onnx": Format(".onnx", ("onnx", "onnxruntime"), "export"),
    "openvino": Format("_openvino", ("openvino",), "openvino"),
    "torchscript": Format(".torchscript"),
}


class Mismatch(ExpungeError):
    """An export computes other results than its weights."""

    exit_code = 1


def export(
    workspace: Workspace, ref: str, form: str, out: Path | None = None, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Export a model version, check it on real images of its dataset, and record it.

    Args:
        workspace: The workspace of the model.
        ref: ``NAME`` (its newest version) or ``NAME@V``.
        form: A key of ``FORMATS``.
        out: The file (for ``openvino`` the folder) to write; None: below ``exports`` in the workspace.
        say: Receives a warning.

    Returns:
        ``model``, ``format``, ``path``, ``bytes``, ``images`` (compared), ``difference`` (largest),
        ``tolerance``, ``state`` of the model.

    Raises:
        InputError: If the version is superseded and was not named, is an ensemble, or a package is missing.
        Mismatch: If the export differs by more than the tolerance; it is deleted.
    """
    chosen = _format(form)
    anchor.check(workspace)
    with workspace.session() as session:
        published = model_store.find_model(session, ref)
        version = get_version(session, published.dataset, published.dataset_version)
        samples = load_samples(session, version, without_erased=True)
    _check_state(published, ref, say)
    source = workspace.root / published.weights
    if source.is_dir():
        raise InputError(
            f"{published.label} is an ensemble.",
            "It is several models whose predictions are fused; no single export stands for it.",
            "Export a model that was trained with aggregate=average.",
        )
    if not source.is_file():
        raise InputError(
            f"The weights of {published.label} are gone.", "A purge may have deleted them.", "Export another."
        )
    _check_bytes(workspace, published, source)
    target = _target(workspace, published, chosen, out)
    folder = workspace.tmp / f"export-{os.getpid()}-{secrets.token_hex(4)}"
    with disk_errors("The export"):
        folder.mkdir(mode=0o700)
        try:
            exported, facts = _convert(published, source, form, folder, version, samples)
            return _publish(workspace, published, form, exported, target, facts)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _format(form: str) -> Format:
    chosen = FORMATS.get(form)
    if chosen is None:
        raise InputError(
            f"There is no export to {form!r}.",
            f"Known: {', '.join(FORMATS)}. Other formats cannot be run here, and so not be checked.",
            "Choose one of these; other converters take the ONNX file.",
        )
    missing = [name for name in chosen.packages if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"The export to {form} needs {' and '.join(missing)}.",
            f"They come with the extra '{chosen.extra}'; nothing is installed unasked.",
            f"Install it with: pip install 'expunge[{chosen.extra}]'",
        )
    return chosen


def _check_state(published: ModelVersion, ref: str, say: Callable[[str], None]) -> None:
    if published.state != "superseded":
        return
    if published.withdrawn and parse_ref(ref)[1] is None:
        raise InputError(
            f"{published.label} is withdrawn.",
            f"{published.withdrawn} erased what it holds through its start or a copy.",
            f"Train it again. To export this version all the same, name it: {published.label}",
        )
    if parse_ref(ref)[1] is None:
        raise InputError(
            f"{published.label} is superseded.",
            "It must not be deployed: it may hold what was erased, or a later version has replaced it.",
            f"Repair the model first. To export this version all the same, name it: {published.label}",
        )
    say(f"warning: {published.label} is superseded and must not be deployed; so is this export.")


def _check_bytes(workspace: Workspace, published: ModelVersion, source: Path) -> None:
    with workspace.session() as session:
        known = derivatives.files_of(session, [published.id])
    if known and file_digest(source) not in known:
        raise InputError(
            f"The file of {published.label} is not what was published.",
            f"{source} has other bytes: class names, settings or code may have changed.",
            "Restore it from a backup, or train the model again.",
        )


def _target(workspace: Workspace, published: ModelVersion, chosen: Format, out: Path | None) -> Path:
    if out is None:
        folder = workspace.folder("exports") / published.name
        folder.mkdir(mode=0o700, exist_ok=True)
        target = folder / f"{published.name}-{published.number}{chosen.suffix}"
    else:
        given = Path(os.path.abspath(out))
        target = Path(os.path.realpath(given.parent)) / given.name
        if not target.parent.is_dir():
            raise InputError(f"There is no folder {given.parent}.", "", "Make it, or choose another.")
    if os.path.lexists(target):
        raise InputError(f"{target} exists already.", "Nothing is overwritten.", "Choose another with --out.")
    try:
        str(target).encode()
    except UnicodeEncodeError as error:
        raise InputError(
            "The file's path is not UTF-8.", "The catalog keeps it, to find it again.", "Choose another."
        ) from error
    return target


def _check_images(version: Version, samples: list[Sample]) -> list[Sample]:
    """Return up to IMAGES readable samples of val, else of test, else of train, ordered by digest."""
    from expunge.tasks.file_checks import check_files

    for split in ("val", "test", "train"):
        found = sorted((s for s in samples if s.split == split), key=lambda s: s.image_digest)
        chosen: list[Sample] = []
        for first in range(0, len(found), IMAGES):
            if len(chosen) < IMAGES:
                chosen += check_files(version.root, version.config, found[first : first + IMAGES]).readable
        if chosen:
            return chosen[:IMAGES]
    return []


def _convert(
    published: ModelVersion, source: Path, form: str, folder: Path, version: Version, samples: list[Sample]
) -> tuple[Path, dict[str, Any]]:
    from expunge.tasks.class_map import known_samples
    from expunge.tasks.export import export_difference, export_model, load_export
    from expunge.tasks.yolo import open_model

    opened = open_model(source)
    images = _check_images(version, known_samples(opened, version.config, samples))
    if not images:
        raise InputError(
            f"{version.label} has no image to check the export on.",
            "An export is compared with the weights on real images.",
            "Add data, then export.",
        )
    exported = export_model(open_model(source), form, folder)
    worst = export_difference(opened, load_export(form, exported), version.root, version.config, images)
    if not worst <= TOLERANCE:
        raise Mismatch(
            f"The export of {published.label} does not compute what its weights compute.",
            f"On {len(images)} images the largest difference is {worst:.2g}; {TOLERANCE:g} is allowed.",
            "It was not kept. Take another format, or other versions of the packages.",
        )
    return exported, {"images": len(images), "difference": worst, "tolerance": TOLERANCE}


def _publish(
    workspace: Workspace,
    published: ModelVersion,
    form: str,
    exported: Path,
    target: Path,
    facts: dict[str, Any],
) -> dict[str, Any]:
    """Record the export, then move it into place: a purge would not find an unrecorded file."""
    files = sorted(exported.iterdir()) if exported.is_dir() else [exported]
    size = sum(file.stat().st_size for file in files)
    draft = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        if exported.is_dir():
            shutil.copytree(exported, draft)
        else:
            shutil.copyfile(exported, draft)
        with workspace.session(write=True) as session:
            row = session.get_one(ModelVersionRow, published.id)
            if row.state == "superseded" and published.state != "superseded":
                raise InputError(
                    f"{published.label} was superseded while it was exported.",
                    "Something that it saw was erased, or a new version was published.",
                    "Export the new version.",
                )
            export_id = derivatives.add_model_export(
                session,
                [file_digest(file) for file in files],
                model_version_id=published.id,
                format=form,
                path=str(target),
                size_bytes=size,
                **facts,
            )
        try:
            _move(draft, target)
        except BaseException:
            with workspace.session(write=True) as session:
                derivatives.withdraw_model_export(session, export_id)
            raise
    finally:
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)
    return {
        "model": published.label,
        "format": form,
        "path": str(target),
        "bytes": size,
        **facts,
        "state": published.state,
    }


def _move(draft: Path, target: Path) -> None:
    """Rename a draft to its target; a file created there meanwhile is not overwritten."""
    try:
        if draft.is_dir():
            os.rename(draft, target)  # fails on anything but an empty folder
        else:
            os.link(draft, target)  # unlike a rename, this overwrites nothing
    except FileExistsError as error:
        raise InputError(f"{target} exists already.", "Nothing is overwritten.", "Choose another.") from error


def exports_of(session: Session, published: ModelVersion) -> list[dict[str, Any]]:
    """Return the exports of a version, as ``models MODEL --json`` lists them."""
    return [
        {
            "format": e.format,
            "path": e.path,
            "created": e.created,
            "difference": e.difference,
            "state": published.state,
        }
        for e in derivatives.model_exports(session, [published.id])
    ]


def known_export(workspace: Workspace, path: Path) -> tuple[WeightsState, str | None] | None:
    """Return the standing and the format of an export (a file or a folder), by its bytes; None if unknown."""
    files = sorted(path.glob("*.xml")) or sorted(path.glob("*.bin")) if path.is_dir() else [path]
    for file in files:
        with workspace.session() as session:
            found = derivatives.versions_of_file(session, f"sha256:{file_digest(file)}")
            verdict = (
                state_of_weights([p for p, _ in found], ancestry.requests_held(session)) if found else None
            )
        if verdict is not None:
            export = next(export for p, export in found if p.id == verdict.version.id)
            return verdict, export.format if export else None
    return None
