# SPDX-License-Identifier: Apache-2.0
"""Checks for training files that differ from the manifest, made before a training starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.errors import InputError
from expunge.storage.files import write_atomically

if TYPE_CHECKING:
    from expunge.data.types import Sample, Version
    from expunge.tasks.file_checks import DamagedSample
    from expunge.workspace import Workspace

LISTED = 20  # files in an error message; the list file names all of them
FOLDER = "damaged"


class DamagedData(InputError):
    """Retained training files are missing or changed, so that no exact training is possible."""

    def during(self, requests: Sequence[str]) -> DamagedData:
        """Return the error with the state of requests whose erasure has begun."""
        state = (
            f"The data of {', '.join(requests)} has been removed from the dataset, and no published model was"
            " trained on it. The repair is pending, and the request stays open."
        )
        return DamagedData(self.what, f"{self.why}\n{state}", self.next_step)


def check_training_files(
    workspace: Workspace, model: str, plan: Path | None, version: Version, samples: Sequence[Sample]
) -> None:
    """Check that all files that a training reads match the manifest and can be decoded.

    Args:
        workspace: The workspace; the list of damaged files is written there.
        model: Name of the model.
        plan: The model's plan file; None for a model that was never published.
        version: The dataset version.
        samples: The samples that the training reads.

    Raises:
        DamagedData: If a file fails; with the first files, their number, and the possible remedies.
    """
    from expunge.tasks.file_checks import check_files

    listing = damage_list(workspace, model)
    listing.unlink(missing_ok=True)
    damaged = check_files(version.root, version.config, samples).damaged
    if not damaged:
        return
    content = "".join(f"{d.path}\t{d.reason}\n" for d in damaged)
    write_atomically(listing, content.encode(), "The list of damaged files")
    shown = "\n".join(f"  {d.path}: {d.reason}" for d in damaged[:LISTED])
    more = f"\n  … all of them are listed in {listing}" if len(damaged) > LISTED else ""
    others = ", …" if len(damaged) > 1 else ""
    raise DamagedData(
        f"{len(damaged)} of the {len(samples)} training files that {model!r} needs are missing or changed:"
        f" {damaged[0].path}{others}",
        f"An exact training needs the bytes that {version.label} records:\n{shown}{more}",
        _advice(model, plan, version.name, damaged),
    )


def _advice(model: str, plan: Path | None, dataset: str, damaged: Sequence[DamagedSample]) -> str:
    missing = any(d.gone for d in damaged)
    if plan is None:
        full = " --full" if missing else ""
        return (
            f"Restore the files, or record the folder as it is now: expunge data add {dataset} …{full}."
            " Then train again."
        )
    return " ".join((*remedies(model, plan, dataset, missing), f"Then finish with: expunge repair {model}"))


def damage_list(workspace: Workspace, model: str) -> Path:
    """Return the path of the list of damaged files of a model's training."""
    return workspace.folder(FOLDER) / f"{model}.txt"


def delete_damage_lists(workspace: Workspace) -> None:
    """Delete the lists of damaged files, which may name erased samples."""
    folder = workspace.root / FOLDER
    for file in folder.glob("*.txt") if folder.is_dir() else ():
        file.unlink(missing_ok=True)


def remedies(model: str, plan: Path | None, dataset: str, gone: bool) -> tuple[str, ...]:
    """Return the remedies for damaged training files of a published model, one sentence each.

    Args:
        model: Name of the model.
        plan: Its plan file.
        dataset: Name of the dataset.
        gone: Whether some files are missing, and not only changed.
    """
    full = " --full" if gone else ""
    command = f"`expunge train {dataset} --name {model} --plan {plan}`"
    return (
        "Restore the files.",
        f"Or erase them as well: `expunge forget --dataset {dataset} --sample PATH …`, or `--from FILE`.",
        "Or record the folder as it is now, and train anew on that version:"
        f" `expunge data add {dataset} DATA.yaml --skip-erased{full}`, then {command}.",
    )
