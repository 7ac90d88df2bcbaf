# SPDX-License-Identifier: Apache-2.0
"""The statement of what was done. Not signed yet: its checksum finds accidents, not forgers."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from expunge.errors import InputError
from expunge.exact.checkpoint import write_atomically
from expunge.exact.hashing import json_digest

FORMAT = "expunge-certificate/1"
GUARANTEES = {
    "exact": (
        "These bytes equal the result of the stated plan on the retained data; whoever holds the data, the "
        "plan, the initial weights and the environment can repeat it."
    ),
    "exact-interim": (
        "These bytes are a function of the retained data, the plan and the stage at which each shard stands; "
        "no byte of the forgotten data entered them. A final model follows. The stop itself tells where the "
        "forgotten data lived, and whoever holds the models before and after can infer what was deleted."
    ),
    "audited": (
        "The weights were adjusted by the stated method. The figures beside it compare the forgotten with "
        "data that no model saw; they found no difference above the stated bounds, or could not have found "
        "one where the verdict is no-power. This does not show that nothing is left."
    ),
    "none": "No statement is made.",
}
AUDIT = ("method", "reasons", "warnings", "figures", "utility", "hyperparameters", "seed", "seconds", "tried")
NOT_COVERED = (
    "copies of earlier models, exports and backups outside the workspace",
    "models fine-tuned elsewhere from an earlier version",
    "what a pre-trained checkpoint had seen before this training",
    "choices made by people after looking at the forgotten data (class list, settings, capacities)",
    "requests chosen by somebody who had seen the model before",
)


def build(
    *,
    request: str,
    received: str,
    method: str,
    dataset_before: str,
    dataset_after: str,
    samples: int,
    subjects: int,
    models: list[dict[str, Any]],
    environment: dict[str, Any],
    state: str,
) -> dict[str, Any]:
    """Return a certificate. It holds counts, versions and digests of weights; no id, path or picture."""
    kept = (
        "model",
        "parent",
        "method",
        "digest",
        "parent_digest",
        "plan",
        "guarantee",
        "composition",
        "cost",
        "verdict",
    )
    entries = []
    for model in models:
        entry = {k: model.get(k) for k in kept}
        if audit := model.get("audit"):
            entry["audit"] = {k: audit[k] for k in AUDIT}
        interim = model.get("interim")
        entry["interim"] = (
            {k: interim.get(k) for k in ("model", "digest", "composition")} if interim else None
        )
        entries.append(entry)
    body = {
        "format": FORMAT,
        "signed": False,
        "request": request,
        "received": received,
        "issued": datetime.now(UTC).isoformat(timespec="seconds"),
        "state": state,
        "method": method,
        "dataset": {"before": dataset_before, "after": dataset_after},
        "removed": {"samples": samples, "subjects": subjects},
        "models": entries,
        "guarantees": {k: v for k, v in GUARANTEES.items() if k != "none"},
        "environment": environment,
        "not_covered": list(NOT_COVERED),
    }
    return {**body, "checksum": {"sha256": json_digest(body)}}


def save(path: Path, certificate: dict[str, Any]) -> None:
    """Write a certificate."""
    write_atomically(path, (json.dumps(certificate, indent=1) + "\n").encode(), "The certificate")


def load(path: Path) -> tuple[dict[str, Any], bool]:
    """Read a certificate and whether its checksum holds.

    Raises:
        InputError: If it is no certificate at all.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        form = content.get("format")
    except OSError as error:
        raise InputError(f"{path} cannot be read.", str(error.strerror), "Check the path.") from error
    except (ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is not a certificate.", "It is not a JSON object.", "Check the path."
        ) from error
    body = {k: v for k, v in content.items() if k != "checksum"}
    checksum = content.get("checksum")
    stated = checksum.get("sha256") if isinstance(checksum, dict) else None
    return content, form == FORMAT and stated == json_digest(body)
