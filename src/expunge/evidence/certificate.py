# SPDX-License-Identifier: Apache-2.0
"""Issues certificates: gathers what was done, signs it, saves it, and commits to it in the log."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.catalog import clock
from expunge.catalog import models as catalog
from expunge.catalog.commitments import ensure_salts
from expunge.catalog.tables import DatasetRow
from expunge.data.digest import file_digest
from expunge.errors import InputError
from expunge.evidence import dsse, log, manifest, measured, statement
from expunge.evidence.keys import signing_key
from expunge.evidence.trust import trusted_keys
from expunge.exact.checkpoint import write_atomically
from expunge.exact.hashing import plain_json
from expunge.user_files import read_bytes

if TYPE_CHECKING:
    from expunge.workspace import Workspace

AUDIT = (
    "method", "level", "reasons", "warnings", "figures", "utility", "hyperparameters", "seed", "seconds",
    "tried",
)  # fmt: skip
KEPT = ("model", "parent", "method", "digest", "parent_digest", "plan", "guarantee", "composition", "verdict")


def issue(
    workspace: Workspace,
    request_id: str,
    *,
    models: list[dict[str, Any]],
    state: str,
    environment: dict[str, Any],
    forgotten: bool,
    purged: list[dict[str, Any]],
    deployments: list[dict[str, Any]],
    originals: dict[str, Any],
) -> Path:
    """Sign what was done for a request, as of now; where that is what was signed last, nothing changes.

    Args:
        workspace: Where the request is known.
        request_id: Which request.
        models: What was done for each model, as in ``forget --json``.
        state: The request's state.
        environment: By plan, the environment in which its models were made.
        forgotten: Whether the catalog has forgotten the rows.
        purged: What purges deleted of the request's data (see :class:`expunge.steps.copies.Said`).
        deployments: Where copies are known to be.
        originals: What is known of the user's own files (see :class:`expunge.evidence.statement.Originals`).

    Returns:
        The certificate's file.
    """
    entries = [_entry(workspace, model) for model in models]
    body: dict[str, Any] = {
        **_of_request(workspace, request_id),
        "request": request_id,
        "state": state,
        "models": entries,
        "guarantees": {k: v for k, v in statement.GUARANTEES.items() if k != "none"},
        "environment": environment,
        "purged": purged,
        "deployments": deployments,
        "originals": originals,
        "catalog": {"forgotten": forgotten, "suppression": statement.SUPPRESSION},
        "not_covered": list(statement.NOT_COVERED),
        "measured": [m.model_dump() for m in measured.read(workspace, request_id)],
    }
    refuse_unchanged(body)
    key, path = signing_key(workspace), path_of(workspace, request_id)
    envelope = _unchanged(path, body, key.public.key_id)
    if envelope is None:
        body["dates"] = {**body["dates"], "issued": workspace.clock().isoformat(timespec="seconds")}
        envelope = dsse.sign(statement.PAYLOAD_TYPE, statement.encode(plain_json(body)), key)
        write_atomically(path, envelope.as_bytes(), "The certificate")
    digest = hashlib.sha256(envelope.payload).hexdigest()
    events = [log.Event(digest, "certified", request_id, digest)]
    if forgotten:
        gone = hashlib.sha256(f"rows-forgotten {request_id}".encode()).hexdigest()
        root = body["manifest"]["removed"]["root"]
        events.insert(0, log.Event(gone, "rows-forgotten", request_id, root))
    log.append(workspace, events)
    return path


def refuse_unchanged(body: Mapping[str, Any]) -> None:
    """Refuse to certify a model that has the tensors from before the erasure.

    Raises:
        InputError: If there is one.
    """
    for entry in body["models"]:
        if statement.claims_nothing_done(entry):
            raise InputError(
                f"{entry['model']} cannot be certified.",
                f"It has the tensors of {entry['parent']}: nothing was changed.",
                "Run the request again with another method: expunge request run "
                f"{body['request']} --method retrain",
            )


@dataclass(frozen=True)
class Amended:
    """A certificate as it is now: its request, the digest of its payload, and whether it was signed anew."""

    request: str
    digest: str
    changed: bool


def amend(
    workspace: Workspace, request_id: str, purged: list[dict[str, Any]], deployments: list[dict[str, Any]]
) -> Amended | None:
    """Sign a certificate again where what it says of copies has changed; all else stays as it was said.

    What carries no signature of the workspace's own keys is left as it is, and what certifies a model that
    was not changed: it is for ``verify`` to say so.

    Returns:
        What to tell the log, also where nothing changed (a process may have died before it told); None where
        there is no such certificate.
    """
    path, trusted = path_of(workspace, request_id), trusted_keys(workspace)
    try:
        envelope = read(path)
        said = statement.decode(envelope.payload).predicate.model_dump()
    except (InputError, dsse.Malformed):
        return None
    signer = trusted.get(envelope.key_id)
    if signer is None or not dsse.signature_holds(envelope, signer):
        return None
    if any(statement.claims_nothing_done(entry) for entry in said["models"]):
        return None
    fresh = plain_json({**said, "purged": purged, "deployments": deployments})
    changed = fresh != said
    if changed:
        fresh["dates"] = {**said["dates"], "issued": workspace.clock().isoformat(timespec="seconds")}
        envelope = dsse.sign(statement.PAYLOAD_TYPE, statement.encode(fresh), signing_key(workspace))
        write_atomically(path, envelope.as_bytes(), "The certificate")
    return Amended(request_id, hashlib.sha256(envelope.payload).hexdigest(), changed)


def path_of(workspace: Workspace, request_id: str) -> Path:
    """Return where the certificate of a request lies."""
    return workspace.certificates / f"{request_id}.json"


def read(path: Path) -> dsse.Envelope:
    """Read a certificate's envelope; nothing in it is verified.

    Raises:
        InputError: If it is no JSON object at all.
        dsse.Malformed: If it is another object.
    """
    try:
        content = read_bytes(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read.", str(error.strerror), "Check the path.") from error
    try:
        return dsse.parse(content)
    except dsse.Malformed:
        raise
    except ValueError as error:
        raise InputError(
            f"{path} is not a certificate.", "It is not a JSON object, or it breaks off.", "Check the path."
        ) from error


def predicate_of(path: Path) -> dict[str, Any]:
    """Return what a certificate says, without verifying it: to show it to people.

    Raises:
        InputError: If it cannot be read.
    """
    try:
        return statement.decode(read(path).payload).predicate.model_dump()
    except dsse.Malformed as error:
        raise InputError(f"{path} is not a certificate.", f"Of it: {error}.", "Check the path.") from error


def _of_request(workspace: Workspace, request_id: str) -> dict[str, Any]:
    """Dates, counts and roots from the catalog."""
    with workspace.session(write=True) as session:
        row = catalog.get_request(session, request_id)
        name = session.get_one(DatasetRow, row.dataset_id).name
        number = row.version_after or row.version_before
        mine = row.version_after not in (None, row.version_before)  # else all was erased before
        parent = manifest.parent_of(session, row.dataset_id, number) if mine else number
        ensure_salts(session, row.dataset_id)
        gone = manifest.removed_leaves(session, row.dataset_id, request_id, parent)
        after = manifest.root_of(session, row.dataset_id, number, gone if row.version_after else ())
        before = manifest.root_of(session, row.dataset_id, parent)
        return {
            "dates": {
                "received": date(row.received),
                "issued": "",
                "due": date(row.due) if row.due else None,
                "extended": _end_of(workspace, row.extension["told"]) if row.extension else None,
            },
            "method": row.method,
            "dataset": {"before": f"{name}@{parent}", "after": f"{name}@{number}"},
            "removed": removed_counts(row.selection, before.leaves, len(gone)),
            "manifest": {
                "algorithm": manifest.ALGORITHM,
                "before": before.as_json(),
                "after": after.as_json(),
                "removed": manifest.tree_of(gone).as_json(),
            },
        }


def removed_counts(selection: Mapping[str, Any], before: int, removed: int) -> dict[str, int]:
    """Return how much went, as a certificate states it.

    Args:
        selection: The request's; it also counts samples that only older versions had, or that went with
            another request.
        before: Leaves of the version before.
        removed: Leaves that went: stated in place of a count that is larger than the version.
    """
    samples = int(selection["samples"])
    return {
        "samples": removed if removed and samples > before else samples,
        "subjects": int(selection["subjects"]),
    }


def _end_of(workspace: Workspace, day: str) -> str:
    """The last moment of a day in the house's time zone: the day of receipt is not before the receipt."""
    return date(clock.end_of(clock.parse_day(day, "told"), workspace.settings.rules))


def date(moment: datetime) -> str:
    """Return ISO 8601 in UTC; the catalog keeps UTC without saying so."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat(timespec="seconds")


def _entry(workspace: Workspace, model: dict[str, Any]) -> dict[str, Any]:
    entry = {k: model.get(k) for k in KEPT}
    audit, interim = model.get("audit"), model.get("interim")
    return {
        **entry,
        "weights": files_of(workspace, model["model"]) if model["digest"] else {},
        "parent_weights": files_of(workspace, model["parent"]) if model.get("parent") else {},
        "cost": {k: model.get(f"cost_{k}") for k in ("predicted", "measured")},
        "audit": {k: audit[k] for k in AUDIT} if audit else None,
        "interim": {
            **{k: interim.get(k) for k in ("model", "digest", "composition")},
            "weights": files_of(workspace, interim["model"]),
        }
        if interim
        else None,
    }


def files_of(workspace: Workspace, label: str) -> dict[str, str]:
    """Return the SHA-256 of each file of a published version, by name; none where they are gone."""
    with workspace.session() as session:
        try:
            path = workspace.root / catalog.find_model(session, label).weights
        except InputError:
            return {}
    files = sorted(path.iterdir()) if path.is_dir() else [path] if path.is_file() else []
    return {file.name: file_digest(file) for file in files}


def _unchanged(path: Path, body: dict[str, Any], key_id: str) -> dsse.Envelope | None:
    """The last certificate, if it says the same of the same key and only its date would differ."""
    try:
        envelope = read(path)
        stated = statement.decode(envelope.payload).predicate.model_dump()
    except (InputError, dsse.Malformed):
        return None
    if envelope.key_id != key_id:
        return None
    issued = stated["dates"]["issued"]
    same = plain_json({**body, "dates": {**body["dates"], "issued": issued}}) == stated
    return envelope if same else None
