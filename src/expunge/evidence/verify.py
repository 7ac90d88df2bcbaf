# SPDX-License-Identifier: Apache-2.0
"""Checks of a certificate, a request or a model, each with its own answer; replay is the strongest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.catalog import models as catalog
from expunge.catalog.models import Published
from expunge.catalog.tables import DatasetRow
from expunge.errors import InputError
from expunge.evidence import certificate
from expunge.exact.composition import Composition
from expunge.exact.model import ErasableModel, states_digest
from expunge.exact.replay import replay as run_replay
from expunge.progress import Progress
from expunge.tasks.weights import states_of

if TYPE_CHECKING:
    from expunge.workspace import Workspace


@dataclass(frozen=True)
class Check:
    """One question and its answer: True, False, or None where it could not be checked."""

    name: str
    ok: bool | None
    detail: str

    def as_json(self) -> dict[str, Any]:
        """Return the check as outsiders read it."""
        return {"name": self.name, "ok": self.ok, "detail": self.detail}


def verify(workspace: Workspace, target: str, *, replay: bool, progress: Progress) -> dict[str, Any]:
    """Verify a certificate file, a request id, or ``MODEL[@V]``.

    Returns:
        ``valid`` (no check failed, and at least one held) and ``checks``.

    Raises:
        InputError: If the target is none of these.
    """
    checks: list[Check] = []
    path = Path(target)
    if target.startswith("r-") and not path.is_file():
        with workspace.session() as session:
            catalog.get_request(session, target)
        path = workspace.certificates / f"{target}.json"
    if path.is_file():
        content, intact = certificate.load(path)
        checks.append(
            Check("certificate", intact, "unsigned; its checksum holds" if intact else "it was changed")
        )
        if intact:
            checks += _of_certificate(workspace, content, replay, progress)
    else:
        with workspace.session() as session:
            published = catalog.find_model(session, target)
        checks += _of_model(workspace, published, published.digest, replay, progress)
    valid = all(c.ok is not False for c in checks) and any(c.ok for c in checks)
    return {"target": target, "valid": valid, "checks": [c.as_json() for c in checks]}


def _of_certificate(
    workspace: Workspace, content: dict[str, Any], replay: bool, progress: Progress
) -> list[Check]:
    checks = [_request(workspace, content)]
    for entry in content["models"]:
        named = [(entry["model"], entry["digest"])] if entry["digest"] else []
        if entry["interim"]:
            named.insert(0, (entry["interim"]["model"], entry["interim"]["digest"]))
        for label, digest in named:
            try:
                with workspace.session() as session:
                    published = catalog.find_model(session, label)
            except InputError as error:
                checks.append(Check(f"{label}: known", False, error.what))
                continue
            stated = entry if digest == entry["digest"] else entry["interim"]
            checks.append(_statement(workspace, published, entry, stated))
            checks += _of_model(workspace, published, digest, replay, progress)
    return checks


def _request(workspace: Workspace, content: dict[str, Any]) -> Check:
    """Whether the catalog knows this request as the certificate tells it."""
    try:
        with workspace.session() as session:
            row = catalog.get_request(session, str(content["request"]))
            name = session.get_one(DatasetRow, row.dataset_id).name
            asked, received = row.selection, row.received.isoformat(timespec="seconds")
            versions = {"before": f"{name}@{row.version_before}", "after": f"{name}@{row.version_after}"}
    except InputError as error:
        return Check("request", False, error.what)
    models = {str(entry["model"]).partition("@")[0] for entry in content["models"]}
    same = (
        received == content["received"]
        and versions == content["dataset"]
        and content["removed"] == {k: asked[k] for k in ("samples", "subjects")}
        and models == set(asked["models"])
    )
    return Check("request", same, f"the catalog {'agrees' if same else 'tells another story'}")


def _statement(
    workspace: Workspace, published: Published, entry: dict[str, Any], stated: dict[str, Any]
) -> Check:
    """Whether the certificate says of a version what the catalog says."""
    with workspace.session() as session:
        history = {p.label: p.digest for p in catalog.history(session, published.name)}
    interim = stated is not entry
    same = (
        (interim or entry["guarantee"] == published.guarantee)
        and entry["plan"] == published.plan_digest
        and stated["composition"] == published.composition
        and entry["parent_digest"] == history.get(entry["parent"])
    )
    detail = f"plan, guarantee, composition and parent are {'those' if same else 'not those'} of the catalog"
    return Check(f"{published.label}: statement", same, detail)


def _of_model(
    workspace: Workspace, published: Published, digest: str, replay: bool, progress: Progress
) -> list[Check]:
    name = published.label
    same = published.digest == digest
    checks = [
        Check(f"{name}: catalog", same, f"the catalog states {'the same' if same else 'another'} digest")
    ]
    path = workspace.root / published.weights
    checks.append(_weights(name, path, digest))
    if published.plan_digest is None:
        return [*checks, Check(f"{name}: exact", None, "adopted: nothing is known of its training")]
    try:
        model = ErasableModel.open(workspace, published, progress)
    except InputError as error:
        return [*checks, Check(f"{name}: plan", False, error.why)]
    clean = published.retained_digest == model.retained
    if published.state == "superseded" and not clean:
        checks.append(
            Check(f"{name}: retained data", None, "superseded: its data includes what was erased since")
        )
    else:
        detail = (
            "its training samples are exactly those that are retained" if clean else "it saw what is erased"
        )
        checks.append(Check(f"{name}: retained data", clean, detail))
        checks.append(_checkpoints(workspace, name, model))
    if replay:
        checks.append(_replay(workspace, model, published, digest, clean))
    return checks


def _checkpoints(workspace: Workspace, name: str, model: ErasableModel) -> Check:
    with workspace.session() as session:
        newest = catalog.find_model(session, model.name)
    if newest.plan_digest != model.plan.digest:
        return Check(f"{name}: checkpoints", None, f"there are only those of {newest.label}, of another plan")
    wanted = {node.key for node in model.graph.nodes}
    stale = [key for key in model.store.stored() if key not in wanted]
    detail = f"{len(stale)} checkpoints saw what is erased" if stale else "no checkpoint saw what is erased"
    return Check(f"{name}: checkpoints", not stale, detail)


def _weights(name: str, path: Path, digest: str) -> Check:
    if not path.exists():
        return Check(f"{name}: weights", None, "the file is gone (purged?)")
    try:
        found = states_digest(states_of(path))
    except InputError as error:
        return Check(f"{name}: weights", False, error.why)
    return Check(f"{name}: weights", found == digest, f"the file's tensors have digest {found[7:19]}…")


def _replay(
    workspace: Workspace, model: ErasableModel, published: Published, digest: str, clean: bool
) -> Check:
    name = f"{published.label}: replay"
    if not clean:
        return Check(name, None, "superseded: it could only be repeated with data that is erased now")
    composition = Composition.from_json(
        published.composition or {"stages": {}, "polish": False, "public": False}
    )
    result = run_replay(workspace, model, composition)
    if result.error:
        return Check(name, None, f"it could not run: {result.error}")
    word = "equal" if result.digest == digest else "different"
    return Check(name, result.digest == digest, f"a fresh process gave {result.digest[7:19]}…: {word}")
