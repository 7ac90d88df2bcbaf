# SPDX-License-Identifier: Apache-2.0
"""Issue certificates: build the statement, sign and save it, and log a commitment to it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.catalog import clock, model_store
from expunge.catalog.commitments import ensure_salts
from expunge.catalog.tables import DatasetRow
from expunge.errors import InputError
from expunge.evidence import dsse, log, log_writer, manifest, measured, statement
from expunge.evidence.key_store import signing_key
from expunge.evidence.trust import trusted_keys
from expunge.storage.digest import file_digest
from expunge.storage.files import write_atomically
from expunge.storage.hashing import plain_json
from expunge.storage.user_files import read_bytes

if TYPE_CHECKING:
    from expunge.workspace import Workspace

AUDIT_FIELDS = (
    "method", "level", "reasons", "warnings", "figures", "utility", "hyperparameters", "seed", "seconds",
    "tried",
)  # fmt: skip
MODEL_FIELDS = (
    "model",
    "parent",
    "method",
    "digest",
    "parent_digest",
    "plan",
    "guarantee",
    "composition",
    "verdict",
)


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
    """Sign and save the certificate of a request; an unchanged certificate is kept as it is.

    Args:
        workspace: The workspace of the request.
        request_id: The request's id.
        models: The result for each model, as in ``forget --json``.
        state: The request's state.
        environment: The training environment, by plan digest.
        forgotten: Whether the catalog has forgotten the rows.
        purged: What purges deleted of the request's data (see :class:`expunge.purge.copies.CopyInventory`).
        deployments: Known copies outside the workspace.
        originals: The user's own files that are left (see :class:`expunge.evidence.statement.Originals`).

    Returns:
        The path of the certificate.
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
        event_id = hashlib.sha256(f"rows-forgotten {request_id}".encode()).hexdigest()
        root = body["manifest"]["removed"]["root"]
        events.insert(0, log.Event(event_id, "rows-forgotten", request_id, root))
    log_writer.append(workspace, events)
    return path


def refuse_unchanged(body: Mapping[str, Any]) -> None:
    """Refuse to certify a model whose tensors are those from before the erasure.

    Raises:
        InputError: If an entry names such a model.
    """
    for entry in body["models"]:
        if statement.claims_unchanged_model(entry):
            raise InputError(
                f"{entry['model']} cannot be certified.",
                f"It has the tensors of {entry['parent']}: nothing was changed.",
                "Run the request again with another method: expunge request run "
                f"{body['request']} --method retrain",
            )


@dataclass(frozen=True)
class Amended:
    """The current certificate: its request, the digest of its payload, and whether it was signed again."""

    request: str
    digest: str
    changed: bool


def amend(
    workspace: Workspace, request_id: str, purged: list[dict[str, Any]], deployments: list[dict[str, Any]]
) -> Amended | None:
    """Update the purges and copies in a certificate, and sign it again if they changed.

    A certificate without a trusted signature, or one that certifies an unchanged model, is left alone;
    ``verify`` reports it.

    Returns:
        The commitment to log, also if nothing changed, since an earlier process may have stopped before it
        logged the commitment; None if there is no such certificate.
    """
    path, trusted = path_of(workspace, request_id), trusted_keys(workspace)
    try:
        envelope = read(path)
        predicate = statement.decode(envelope.payload).predicate.model_dump()
    except (InputError, dsse.Malformed):
        return None
    signer = trusted.get(envelope.key_id)
    if signer is None or not dsse.signature_holds(envelope, signer):
        return None
    if any(statement.claims_unchanged_model(entry) for entry in predicate["models"]):
        return None
    updated = plain_json({**predicate, "purged": purged, "deployments": deployments})
    changed = updated != predicate
    if changed:
        updated["dates"] = {**predicate["dates"], "issued": workspace.clock().isoformat(timespec="seconds")}
        envelope = dsse.sign(statement.PAYLOAD_TYPE, statement.encode(updated), signing_key(workspace))
        write_atomically(path, envelope.as_bytes(), "The certificate")
    return Amended(request_id, hashlib.sha256(envelope.payload).hexdigest(), changed)


def path_of(workspace: Workspace, request_id: str) -> Path:
    """Return the path of a request's certificate."""
    return workspace.certificates / f"{request_id}.json"


def read(path: Path) -> dsse.Envelope:
    """Return a certificate's envelope, not verified.

    Raises:
        InputError: If the file cannot be read or holds no JSON object.
        dsse.Malformed: If the JSON object is no DSSE envelope.
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
    """Return a certificate's predicate for display, not verified.

    Raises:
        InputError: If the certificate cannot be read.
    """
    try:
        return statement.decode(read(path).payload).predicate.model_dump()
    except dsse.Malformed as error:
        raise InputError(f"{path} is not a certificate.", f"Of it: {error}.", "Check the path.") from error


def _of_request(workspace: Workspace, request_id: str) -> dict[str, Any]:
    """Return a request's dates, counts and Merkle roots from the catalog."""
    with workspace.session(write=True) as session:
        row = model_store.get_request(session, request_id)
        name = session.get_one(DatasetRow, row.dataset_id).name
        number = row.version_after or row.version_before
        made_version = row.version_after not in (None, row.version_before)  # False: all was erased before
        parent = manifest.parent_of(session, row.dataset_id, number) if made_version else number
        ensure_salts(session, row.dataset_id)
        removed = manifest.removed_leaves(session, row.dataset_id, request_id, parent)
        after = manifest.root_of(session, row.dataset_id, number, removed if row.version_after else ())
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
            "removed": removed_counts(row.selection, before.leaves, len(removed)),
            "manifest": {
                "algorithm": manifest.ALGORITHM,
                "before": before.as_json(),
                "after": after.as_json(),
                "removed": manifest.tree_of(removed).as_json(),
            },
        }


def removed_counts(selection: Mapping[str, Any], before: int, removed: int) -> dict[str, int]:
    """Return the counts of removed samples and subjects, as a certificate states them.

    Args:
        selection: The request's selection; its count includes samples that only older versions had, or that
            another request removed.
        before: Number of leaves of the version before.
        removed: Number of removed leaves; replaces a count that is larger than the version.
    """
    samples = int(selection["samples"])
    return {
        "samples": removed if removed and samples > before else samples,
        "subjects": int(selection["subjects"]),
    }


def _end_of(workspace: Workspace, day: str) -> str:
    """Return the last moment of a day in the workspace's time zone, so that it is not before the receipt."""
    return date(clock.end_of(clock.parse_day(day, "told"), workspace.settings.rules))


def date(moment: datetime) -> str:
    """Return a time as ISO 8601 in UTC; times without zone, as in the catalog, are UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat(timespec="seconds")


def _entry(workspace: Workspace, model: dict[str, Any]) -> dict[str, Any]:
    entry = {k: model.get(k) for k in MODEL_FIELDS}
    audit, interim = model.get("audit"), model.get("interim")
    return {
        **entry,
        "weights": files_of(workspace, model["model"]) if model["digest"] else {},
        "parent_weights": files_of(workspace, model["parent"]) if model.get("parent") else {},
        "cost": {k: model.get(f"cost_{k}") for k in ("predicted", "measured")},
        "audit": {k: audit[k] for k in AUDIT_FIELDS} if audit else None,
        "interim": {
            **{k: interim.get(k) for k in ("model", "digest", "composition")},
            "weights": files_of(workspace, interim["model"]),
        }
        if interim
        else None,
    }


def files_of(workspace: Workspace, label: str) -> dict[str, str]:
    """Return the SHA-256 of each file of a published version, by file name; empty if the files are gone."""
    with workspace.session() as session:
        try:
            path = workspace.root / model_store.find_model(session, label).weights
        except InputError:
            return {}
    files = sorted(path.iterdir()) if path.is_dir() else [path] if path.is_file() else []
    return {file.name: file_digest(file) for file in files}


def _unchanged(path: Path, body: dict[str, Any], key_id: str) -> dsse.Envelope | None:
    """Return the saved certificate if it has the same key and content, apart from the date of issue."""
    try:
        envelope = read(path)
        saved = statement.decode(envelope.payload).predicate.model_dump()
    except (InputError, dsse.Malformed):
        return None
    if envelope.key_id != key_id:
        return None
    issued = saved["dates"]["issued"]
    same = plain_json({**body, "dates": {**body["dates"], "issued": issued}}) == saved
    return envelope if same else None
