# SPDX-License-Identifier: Apache-2.0
"""Records for a request what was measured by group, without a name of a group; the certificate repeats it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.catalog import models as catalog
from expunge.errors import InputError
from expunge.evidence.measured import Measured, path_of, read
from expunge.exact.checkpoint import write_atomically
from expunge.harm.grouping import looked_at

if TYPE_CHECKING:
    from expunge.workspace import Workspace


def record(workspace: Workspace, request_id: str, compared: dict[str, Any]) -> Path:
    """Record a comparison for a request and sign its certificate anew.

    Args:
        workspace: Where the request is known.
        request_id: Which.
        compared: What :func:`expunge.harm.fairness.compare` found.

    Returns:
        The certificate's file.

    Raises:
        InputError: If none of the models was made for the request, nothing was certified yet, harm was
            looked for on that split, or no two groups were large enough.
    """
    from expunge.steps.settling import certify_again

    with workspace.session() as session:
        catalog.get_request(session, request_id)
        made = {catalog.find_model(session, m["model"]).request_id for m in compared["models"]}
    if request_id not in made:
        raise InputError(
            f"None of these models was made for the request {request_id}.",
            "A certificate says what was measured of the models that it is about.",
            f"See them with: expunge request show {request_id}",
        )
    if compared["split"] in looked_at(workspace, compared["data"].partition("@")[0]):
        raise InputError(
            f"Figures of the split {compared['split']!r} cannot be certified.",
            "`bias find` looked for harm on it: what finds never judges.",
            "Compare on another split.",
        )
    if compared["models"][0]["worst"] is None:
        raise InputError(
            "There is nothing that a certificate could say.",
            "Fewer than two groups are large enough for a figure.",
            "Measure on more data, or leave out --request.",
        )
    entry = measured_of(compared)
    known = [m for m in read(workspace, request_id) if m != entry]
    content = [m.model_dump() for m in (*known, entry)]
    file = path_of(workspace, request_id)
    file.parent.mkdir(mode=0o700, exist_ok=True)
    write_atomically(file, (json.dumps(content, indent=1) + "\n").encode(), "The record")
    return certify_again(workspace, request_id)


def measured_of(compared: dict[str, Any]) -> Measured:
    """Return what a certificate may say of a comparison: counts and figures, and no name of a group."""
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
