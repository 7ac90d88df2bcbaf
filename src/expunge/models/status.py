# SPDX-License-Identifier: Apache-2.0
"""Status of a weights file (``expunge status``): current, interim, superseded or unknown.

A file is recognised by its tensors, not by its name. If its tensors are those of a version but other content
differs (class names, activations, anything that a loader reads), the file is unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.catalog import ancestry, derivatives, model_store, weights_state
from expunge.catalog.model_store import ModelVersion
from expunge.catalog.weights_state import WeightsState
from expunge.errors import InputError
from expunge.evidence import anchor
from expunge.exact.model import states_digest
from expunge.exact.weight_files import weight_files
from expunge.storage.digest import file_digest
from expunge.storage.hashing import rounded_digest, tensor_digest

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from expunge.workspace import Workspace

CHANGED = (
    "Its tensors are those of {label}, but the rest of the file is not what was published: class names, "
    "settings or code may differ. Copy the file from the workspace again."
)
ROUNDED = "Its tensors are those of {label}, rounded: it is no file that was published."


@dataclass(frozen=True)
class _Content:
    """The state dicts in a weights file or in an ensemble's folder.

    Attributes:
        states: State dicts that a loader uses.
        others: Further state dicts in the file, such as a raw model beside its EMA.
    """

    states: Sequence[Any]
    others: Sequence[Any] = ()


def status(workspace: Workspace, weights: Path) -> dict[str, Any]:
    """Return the status of weights, recognised by their tensors; an export is recognised by its bytes.

    Args:
        workspace: The workspace whose models are recognised.
        weights: A file, an ensemble's folder, one file of an ensemble, or an export.

    Returns:
        ``digest``, ``status``, ``model``, ``guarantee``, ``export`` (a format) and ``reason`` (why a file
        with known tensors is unknown).

    Raises:
        InputError: If the file cannot be read, or the workspace was restored from an old backup.
    """
    from expunge.models.exports import WEIGHTS, known_export

    anchor.check(workspace)
    tensors = weights.suffix in (*WEIGHTS, ".safetensors")
    openvino = weights.is_dir() and any(weights.glob("*.xml"))  # OpenVINO writes a folder
    if openvino or (weights.is_file() and not tensors):
        found = known_export(workspace, weights)
        digest = found[0].version.digest if found else None
        return _answer(digest, found[0] if found else None, export=found[1] if found else None)
    content = _read(weights)
    digest = states_digest(content.states)
    with workspace.session() as session:
        held = ancestry.requests_held(session)
        records = _records(workspace, session, digest, held)
        verdict = weights_state.state_of_weights(records, held)
        similar = _copies(session, content, held) if not weights.is_dir() else []
        candidates = {p.id: p for p in (*records, *similar)}
        cautious = weights_state.state_of_weights(sorted(candidates.values(), key=lambda p: -p.id), held)
        changed = verdict is not None and _is_changed(session, records, weights)
    if cautious is not None and cautious.state == "superseded":
        verdict = cautious
    if verdict is None or (verdict.state != "superseded" and changed):
        known = verdict or cautious
        text = CHANGED if verdict else ROUNDED
        return _answer(digest, None, reason=text.format(label=known.version.label) if known else None)
    return _answer(digest, verdict)


def _answer(
    digest: str | None, found: WeightsState | None, *, export: str | None = None, reason: str | None = None
) -> dict[str, Any]:
    return {
        "digest": digest,
        "status": found.state if found else "unknown",
        "model": found.version.label if found else None,
        "guarantee": found.version.guarantee if found else None,
        "export": export,
        "reason": reason,
    }


def _read(weights: Path) -> _Content:
    from expunge.tasks.weights import read_checkpoint_content, states_of

    if weights.suffix == ".safetensors" and weights.is_file():
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return _Content([load_file(str(weights))])
        except (OSError, SafetensorError) as error:
            raise InputError(f"{weights} cannot be read.", "It is no safetensors file.", "") from error
    if weights.is_dir():
        return _Content(states_of(weights))
    inside = read_checkpoint_content(weights)
    return _Content(inside.states[:1], inside.states[1:])


def _records(
    workspace: Workspace, session: Session, digest: str, held: dict[int, tuple[str, ...]]
) -> list[ModelVersion]:
    """Return the versions with a digest and the ensembles with a part of that digest, newest first."""
    whole, parts = model_store.by_digest(session, digest), model_store.by_part(session, digest)
    if all(p.state == "superseded" for p in (*whole, *parts)):
        parts += _unrecorded_parts(workspace, session, digest)
    # A part that is also in an ensemble without erased data was not trained on erased data.
    clean = [p for p in parts if not held.get(p.id)]
    unique = {p.id: p for p in (*whole, *(clean or parts))}
    return sorted(unique.values(), key=lambda p: -p.id)


def _unrecorded_parts(workspace: Workspace, session: Session, digest: str) -> list[ModelVersion]:
    """Return purged ensembles, and those of old releases without recorded parts, with a part of a digest."""
    from expunge.tasks.weights import states_of

    found = [p for p, _ in derivatives.versions_of_file(session, f"tensors:{digest.removeprefix('sha256:')}")]
    old = [p for p in model_store.model_versions(session) if p.parts is None]
    for published in reversed([p for p in old if (workspace.root / p.weights).is_dir()]):
        try:
            states = states_of(workspace.root / published.weights)
        except InputError:
            continue  # damaged; `expunge verify` reports it
        if any(tensor_digest(state) == digest for state in states):
            found.append(published)
    return found


def _copies(session: Session, content: _Content, held: dict[int, tuple[str, ...]]) -> list[ModelVersion]:
    """Return versions whose tensors the file holds rounded, or beside the state that a loader uses."""
    digests = {rounded_digest(state) for state in content.states}
    digests |= {tensor_digest(state) for state in (*content.states, *content.others)}
    digests |= {rounded_digest(state) for state in content.others}
    return ancestry.load_ancestry(session).matching(digests, held)


def _is_changed(session: Session, records: Sequence[ModelVersion], weights: Path) -> bool:
    """Return whether a file's bytes differ from all files that were published for some versions."""
    known = derivatives.files_of(session, [p.id for p in records])
    return bool(known) and any(file_digest(file) not in known for file in weight_files(weights))
