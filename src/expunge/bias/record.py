# SPDX-License-Identifier: Apache-2.0
"""Record figures by group for a request and its certificate, without names of groups."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.bias.workspace_groups import searched_splits
from expunge.catalog import model_store
from expunge.errors import InputError
from expunge.evidence.measured import Measured, path_of, read
from expunge.storage.files import write_atomically

if TYPE_CHECKING:
    from expunge.workspace import Workspace


def record_comparison(workspace: Workspace, request_id: str, compared: dict[str, Any]) -> Path:
    """Record a comparison for a request, sign its certificate again, and return the certificate's path.

    Args:
        workspace: The workspace with the request.
        request_id: Id of the request.
        compared: Result of :func:`expunge.bias.measure.compare`.

    Raises:
        InputError: If none of the models was made for the request, nothing is certified yet, the split was
            searched for harmful data, or fewer than two groups were large enough.
    """
    from expunge.erasure.closing import reissue_certificate

    with workspace.session() as session:
        model_store.get_request(session, request_id)
        made = {model_store.find_model(session, m["model"]).request_id for m in compared["models"]}
    if request_id not in made:
        raise InputError(
            f"None of these models was made for the request {request_id}.",
            "A certificate has figures only for the models of its request.",
            f"See them with: expunge request show {request_id}",
        )
    if compared["split"] in searched_splits(workspace, compared["data"].partition("@")[0]):
        raise InputError(
            f"Figures of the split {compared['split']!r} cannot be certified.",
            "`bias find` searched on it: what finds never judges.",
            "Compare on another split.",
        )
    if compared["models"][0]["worst"] is None:
        raise InputError(
            "There is no figure to certify.",
            "Fewer than two groups are large enough for a figure.",
            "Measure on more data, or leave out --request.",
        )
    entry = measured_of(compared)
    known = [m for m in read(workspace, request_id) if m != entry]
    content = [m.model_dump() for m in (*known, entry)]
    file = path_of(workspace, request_id)
    file.parent.mkdir(mode=0o700, exist_ok=True)
    write_atomically(file, (json.dumps(content, indent=1) + "\n").encode(), "The record")
    return reissue_certificate(workspace, request_id)


def measured_of(compared: dict[str, Any]) -> Measured:
    """Return the part of a comparison for a certificate: counts and figures, without names of groups."""
    models = compared["models"]
    large = [e for e in models[0]["groups"] if e["figures"] is not None and not e["apart"]]
    fields = ("value", "low", "high")
    return Measured(
        dataset=compared["data"],
        split=compared["split"],
        metric=compared["metric"],
        by=compared["by"],
        models=[m["model"] for m in models],
        attributes=len(compared["group"]),
        groups=len(large),
        groups_without_figure=len(models[0]["groups"]) - len(large),
        minimum=models[0]["minimum"],
        samples=compared["samples"],
        worst=[{k: m["worst"][k] for k in fields} if m["worst"] else None for m in models],
        gap=[{k: m["gap"][k] for k in (*fields, "by_chance")} if m["gap"] else None for m in models],
        harmed=[len(groups) for groups in compared["changes"]["harmed"]],
    )
