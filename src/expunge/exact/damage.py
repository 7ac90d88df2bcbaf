# SPDX-License-Identifier: Apache-2.0
"""Training files that are not what the manifest records: all found before a training, with the ways out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.errors import InputError
from expunge.exact.checkpoint import write_atomically

if TYPE_CHECKING:
    from expunge.data.types import Sample, Version
    from expunge.tasks.readable import Damaged
    from expunge.workspace import Workspace

LISTED = 20  # in an error; the file holds all
FOLDER = "damaged"


class DamagedData(InputError):
    """Retained training files are missing or changed, so that no exact training is possible."""

    def during(self, requests: Sequence[str]) -> DamagedData:
        """Return the error with what it means for requests whose erasure has begun."""
        stand = (
            f"What {', '.join(requests)} erases is out of the dataset, and no published model holds it; the"
            " repair waits, and the request stays open."
        )
        return DamagedData(self.what, f"{self.why}\n{stand}", self.next_step)


def check_training_files(
    workspace: Workspace, model: str, plan: Path | None, version: Version, samples: Sequence[Sample]
) -> None:
    """Refuse a training if a file of its samples is gone, changed or cannot be read.

    Args:
        workspace: Where the list of all such files is written.
        model: Name of the model.
        plan: The model's plan file; None: the model is new, and nothing waits for it.
        version: The dataset version.
        samples: What the training reads.

    Raises:
        DamagedData: With the first files, how many there are, and what can be done.
    """
    from expunge.tasks.readable import check_files

    listing = list_of(workspace, model)
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


def _advice(model: str, plan: Path | None, dataset: str, damaged: Sequence[Damaged]) -> str:
    gone = any(d.gone for d in damaged)
    if plan is None:
        full = " --full" if gone else ""
        return (
            f"Restore the files, or record the folder as it is now: expunge data add {dataset} …{full}."
            " Then train again."
        )
    return " ".join((*ways_out(model, plan, dataset, gone), f"Then finish with: expunge repair {model}"))


def list_of(workspace: Workspace, model: str) -> Path:
    """Return the file in which the damaged files of a model's training are listed."""
    return workspace.folder(FOLDER) / f"{model}.txt"


def forget_lists(workspace: Workspace) -> None:
    """Delete the lists of damaged files: they may name what is erased now."""
    folder = workspace.root / FOLDER
    for file in folder.glob("*.txt") if folder.is_dir() else ():
        file.unlink(missing_ok=True)


def ways_out(model: str, plan: Path | None, dataset: str, gone: bool) -> tuple[str, ...]:
    """Return what can be done about damaged training files of a published model, one sentence each.

    Args:
        model: Name of the model.
        plan: Its plan file.
        dataset: Name of the dataset.
        gone: Some of the files are not there, and not only changed.
    """
    full = " --full" if gone else ""
    anew = f"`expunge train {dataset} --name {model} --plan {plan}`"
    return (
        "Restore the files.",
        f"Or erase them as well: `expunge forget --dataset {dataset} --sample PATH …`, or `--from FILE`.",
        "Or record the folder as it is now, and train anew on that version:"
        f" `expunge data add {dataset} DATA.yaml --skip-erased{full}`, then {anew}.",
    )
