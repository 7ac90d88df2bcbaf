# SPDX-License-Identifier: Apache-2.0
"""Checks of weights before they are adopted: none may be known to have been trained on erased data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select

from expunge.catalog import ancestry, weights_state
from expunge.catalog.tables import OpaqueLeaf, SampleRow
from expunge.errors import InputError
from expunge.models.starts import Origin, check_start

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from expunge.data.types import Version


def check(session: Session, origin: Origin, weights: Path, name: str) -> None:
    """Refuse weights that were trained on erased data, or that are superseded under another name.

    Args:
        session: A session on the catalog.
        origin: The digests of the file and of its starts.
        weights: The file, for the message.
        name: The model's name.

    Raises:
        InputError: If the weights are refused; nothing was changed.
    """
    check_start(session, origin.every, str(weights))
    known, held = ancestry.load_ancestry(session), ancestry.requests_held(session)
    others = [p for p in known.matching(origin.own, held) if p.name != name]
    verdict = weights_state.state_of_weights(others, held)
    if verdict is not None and verdict.state == "superseded":
        raise InputError(
            f"{weights} is {verdict.version.label}, which is superseded.",
            "Weights that are superseded under one name are not current under another.",
            f"To go back to it, adopt it as {verdict.version.name!r} again.",
        )


def state_of(session: Session, version: Version) -> str:
    """Return the state of a newly adopted model: ``superseded`` if training samples were erased since.

    While the erasure's request is open, the model waits for unlearning. Once the request is closed, the
    erased samples are gone and the model could no longer be unlearned.

    Args:
        session: A session on the catalog.
        version: The dataset version that the model was trained on.

    Raises:
        InputError: If a closed request erased training samples of that version.
    """
    erased = select(SampleRow.id).where(
        SampleRow.dataset_id == version.dataset_id,
        SampleRow.split == "train",
        SampleRow.removal == "erased",
        SampleRow.arrived <= version.number,
        SampleRow.removed > version.number,
    )
    closed = select(OpaqueLeaf.id).where(
        OpaqueLeaf.dataset_id == version.dataset_id,
        OpaqueLeaf.arrived <= version.number,
        OpaqueLeaf.removed > version.number,
    )
    if session.scalar(closed.limit(1)) is not None:
        raise InputError(
            f"Samples of {version.label} were erased, and no model can be unlearned from them any more.",
            "A model that was trained on that version holds them for good.",
            "Train it again. If it was trained without them, name a version from after the erasure.",
        )
    return "current" if session.scalar(erased.limit(1)) is None else "superseded"
