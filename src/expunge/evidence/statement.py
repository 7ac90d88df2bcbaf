# SPDX-License-Identifier: Apache-2.0
"""The content of a certificate: an in-toto Statement v1 (https://in-toto.io/Statement/v1) and its predicate.

The models below define the format. Parsing is strict: a missing field, an extra field or a field of another
type is an error, so that every reader interprets the signed bytes in the same way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from expunge.evidence.dsse import Malformed, load_strictly
from expunge.evidence.measured import Measured

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://expunge.dev/erasure/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
TENSORS, MANIFEST = "expunge_tensors_v1", "expunge_manifest_v1"  # names of digests that are no file hashes

Guarantee = Literal["exact", "exact-interim", "audited", "none"]
GUARANTEES: dict[str, str] = {
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
SUPPRESSION = {
    "what": "keyed digests (HMAC-SHA256) of subject ids, paths and image bytes: pseudonymous personal data",
    "purpose": "that what was erased is recognised and refused when somebody adds it again",
    "retention": "as long as the workspace takes in data, or until the person agrees anew",
}
NOT_COVERED = (
    "copies of earlier models, exports and backups outside the workspace",
    "models fine-tuned elsewhere from an earlier version",
    "what a pre-trained checkpoint had seen before this training",
    "choices made by people after looking at the forgotten data (class list, settings, capacities)",
    "requests chosen by somebody who had seen the model before",
    "the user's own files, such as the table of subjects, and what a disk keeps beneath its file system",
)


Size = Annotated[int, Field(ge=0)]


class Part(BaseModel):
    """Base of all parts of a statement: no missing or extra fields, no conversion of types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Subject(Part):
    """A subject of the statement: a weights file or a manifest."""

    name: str
    digest: dict[str, str] = Field(min_length=1)


class Dates(Part):
    """The request's dates, ISO 8601 with time zone.

    Attributes:
        received: Receipt of the request.
        issued: Issue of the certificate.
        due: Due date, including an extension.
        extended: The day on which the person was informed of an extension.
    """

    received: str
    issued: str
    due: str | None = None
    extended: str | None = None


class Versions(Part):
    """Labels of the dataset version before and after the erasure."""

    before: str
    after: str


class Removed(Part):
    """Counts of removed samples and subjects."""

    samples: Size
    subjects: Size


class TreeOf(Part):
    """A salted Merkle root and the number of its leaves."""

    root: str = Field(pattern="^[0-9a-f]{64}$")
    leaves: Size


class Manifest(Part):
    """The Merkle trees: ``after`` = ``before`` minus the leaves of ``removed``."""

    algorithm: str
    before: TreeOf
    after: TreeOf
    removed: TreeOf


class Interim(Part):
    """The interim model, published before the repair."""

    model: str
    digest: str
    weights: dict[str, str]
    composition: dict[str, Any] | None


class Model(Part):
    """The result for one model. ``weights``: SHA-256 of each file, by file name."""

    model: str
    parent: str | None
    method: str
    digest: str | None
    weights: dict[str, str]
    parent_digest: str | None
    parent_weights: dict[str, str]
    plan: str | None
    guarantee: Guarantee
    composition: dict[str, Any] | None
    cost: dict[str, float | None]
    verdict: str | None
    audit: dict[str, Any] | None
    interim: Interim | None


class Count(Part):
    """Number and total size of the files of a kind."""

    files: Size
    bytes: Size


class Purged(Part):
    """The files that one purge deleted. ``plan``: digest of the list that was shown before the purge."""

    plan: str = Field(pattern="^sha256:[0-9a-f]{64}$")
    at: str
    kinds: dict[str, Count]


class Export(Part):
    """An export of a model that was trained on the data. ``sha256``: digest of each of its files."""

    kind: Literal["export"]
    model: str
    format: str
    sha256: list[str]
    confirmed: bool


class Tree(Part):
    """An exported copy of the dataset, written before the erasure and still recorded."""

    kind: Literal["data-export"]
    dataset: str
    confirmed: bool


class Place(Part):
    """A place outside the machine, as a keyed digest, since its name may be personal data."""

    kind: Literal["external"]
    place: str = Field(pattern="^[0-9a-f]{32}$")
    scheme: str = Field(pattern="^[a-z0-9]{1,10}$")
    confirmed: bool


class Originals(Part):
    """The user's own files of erased samples.

    Attributes:
        left: Number of files that still exist.
        folders_not_reachable: Number of current or former folders of the dataset that could not be searched.
        same_bytes_in: Other datasets of the workspace that retain an image with the same bytes.
    """

    left: Size
    folders_not_reachable: Size
    same_bytes_in: list[str]


class Catalog(Part):
    """The data of the person that stays in the catalog, and why."""

    forgotten: bool
    suppression: dict[str, str]


class Predicate(Part):
    """The erasure. ``measured``: figures by group, if they were recorded."""

    request: str = Field(pattern="^r-[0-9a-f]{16}$")
    state: str
    dates: Dates
    method: str
    dataset: Versions
    removed: Removed
    manifest: Manifest
    models: list[Model]
    guarantees: dict[str, str]
    environment: dict[str, Any]
    purged: list[Purged]
    deployments: list[Annotated[Export | Tree | Place, Field(discriminator="kind")]]
    originals: Originals | None = None  # certificates of earlier versions do not have it
    catalog: Catalog
    not_covered: list[str]
    measured: list[Measured] = []


class Statement(Part):
    """An in-toto Statement v1."""

    type: str = Field(alias="_type")
    subject: list[Subject] = Field(min_length=1)
    predicate_type: str = Field(alias="predicateType")
    predicate: Predicate


def encode(predicate: dict[str, Any]) -> bytes:
    """Return the payload for a predicate; its subjects are the artefacts that have a digest."""
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": digest} for name, digest in subjects(predicate).items()],
        "predicateType": PREDICATE,
        "predicate": predicate,
    }
    payload = json.dumps(statement, sort_keys=True, allow_nan=False).encode()
    decode(payload)  # raises if the payload could not be read back
    return payload


def decode(payload: bytes) -> Statement:
    """Return the statement in a payload.

    Raises:
        Malformed: If the payload is no such statement; the message names the field.
    """
    try:
        found = load_strictly(payload)
    except Malformed:
        raise
    except ValueError as error:
        raise Malformed("the payload is no JSON object") from error
    for field, wanted in (("_type", STATEMENT), ("predicateType", PREDICATE)):
        if found.get(field) != wanted:
            raise Malformed(f"{field} is {str(found.get(field))[:80]!r} instead of {wanted!r}")
    try:
        return Statement.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(step)[:40] for step in first["loc"])
        raise Malformed(f"{place}: {first['msg']}") from error


def subjects(predicate: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Return digests of a predicate's artefacts by name: interim and final weights, and the manifest."""
    found: dict[str, dict[str, str]] = {}
    for entry in predicate["models"]:
        for part in (entry["interim"], entry):
            if not part or not part["digest"]:
                continue
            tensors = {TENSORS: str(part["digest"]).removeprefix("sha256:")}
            files = part["weights"]
            if len(files) <= 1:
                found[part["model"]] = {
                    **({"sha256": next(iter(files.values()))} if files else {}),
                    **tensors,
                }
            else:
                found[part["model"]] = tensors
                found |= {f"{part['model']}/{name}": {"sha256": d} for name, d in files.items()}
    found[predicate["dataset"]["after"]] = {MANIFEST: predicate["manifest"]["after"]["root"]}
    return found


def claims_unchanged_model(entry: Mapping[str, Any]) -> bool:
    """Return whether an entry names a new version whose tensors equal those of its parent.

    A version that needed no change, since it was not trained on erased data, is its own parent.
    """
    digest = entry.get("digest")
    return digest is not None and digest == entry.get("parent_digest") and entry["model"] != entry["parent"]
