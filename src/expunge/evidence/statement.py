# SPDX-License-Identifier: Apache-2.0
"""What a certificate says: an in-toto Statement v1 (https://in-toto.io/Statement/v1) with our own predicate.

The models below are the format. Reading is strict: a field more or less, or of another type, is no
certificate, since a signature is worth only as much as what the reader made of it.
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
TENSORS, MANIFEST = "expunge_tensors_v1", "expunge_manifest_v1"  # digests that are no file's hash

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
    """A part of a statement: nothing missing, nothing more, no conversion of types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Subject(Part):
    """What the statement is about: a file of weights, or a manifest."""

    name: str
    digest: dict[str, str] = Field(min_length=1)


class Dates(Part):
    """When, ISO 8601 with a zone. ``due``: as extended, if so; ``extended``: the day when that was told."""

    received: str
    issued: str
    due: str | None = None
    extended: str | None = None


class Versions(Part):
    """Labels of the dataset's versions."""

    before: str
    after: str


class Removed(Part):
    """How much went."""

    samples: Size
    subjects: Size


class TreeOf(Part):
    """A salted Merkle root and the number of its leaves."""

    root: str = Field(pattern="^[0-9a-f]{64}$")
    leaves: Size


class Manifest(Part):
    """The roots: ``after`` = ``before`` minus the leaves of ``removed``."""

    algorithm: str
    before: TreeOf
    after: TreeOf
    removed: TreeOf


class Interim(Part):
    """The model that was published at once."""

    model: str
    digest: str
    weights: dict[str, str]
    composition: dict[str, Any] | None


class Model(Part):
    """What was done for one model. ``weights``: SHA-256 of each file, by its name."""

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
    """How many files of a kind, and their size."""

    files: Size
    bytes: Size


class Purged(Part):
    """What one purge deleted of the request's data. ``plan``: digest of the list that was shown before."""

    plan: str = Field(pattern="^sha256:[0-9a-f]{64}$")
    at: str
    kinds: dict[str, Count]


class Export(Part):
    """An export of a model that saw the data. ``sha256``: of each of its files."""

    kind: Literal["export"]
    model: str
    format: str
    sha256: list[str]
    confirmed: bool


class Tree(Part):
    """A tree of samples that was written before they were erased, and is still known to be there."""

    kind: Literal["data-export"]
    dataset: str
    confirmed: bool


class Place(Part):
    """A place outside of the machine, by a keyed digest: its name may name people."""

    kind: Literal["external"]
    place: str = Field(pattern="^[0-9a-f]{32}$")
    scheme: str = Field(pattern="^[a-z0-9]{1,10}$")
    confirmed: bool


class Originals(Part):
    """The user's own files of what was erased.

    Attributes:
        left: How many are still there.
        folders_not_reachable: Folders in which the dataset lies or once lay and that could not be searched.
        same_bytes_in: Other datasets of the workspace that retain a picture with the same bytes.
    """

    left: Size
    folders_not_reachable: Size
    same_bytes_in: list[str]


class Catalog(Part):
    """What the catalog still knows of the person, and why."""

    forgotten: bool
    suppression: dict[str, str]


class Predicate(Part):
    """The erasure. ``measured``: figures by group, where somebody asked for them."""

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
    """The whole."""

    type: str = Field(alias="_type")
    subject: list[Subject] = Field(min_length=1)
    predicate_type: str = Field(alias="predicateType")
    predicate: Predicate


def encode(predicate: dict[str, Any]) -> bytes:
    """Return the payload for a predicate: its subjects are what it names with a digest."""
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": digest} for name, digest in subjects(predicate).items()],
        "predicateType": PREDICATE,
        "predicate": predicate,
    }
    payload = json.dumps(statement, sort_keys=True, allow_nan=False).encode()
    decode(payload)  # nothing is signed that could not be read
    return payload


def decode(payload: bytes) -> Statement:
    """Read a payload.

    Raises:
        Malformed: If it is not such a statement; the message says in what.
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
    """Return what a predicate is about, by name: files of weights, interim and final, and the manifest."""
    found: dict[str, dict[str, str]] = {}
    for entry in predicate["models"]:
        for shown in (entry["interim"], entry):
            if not shown or not shown["digest"]:
                continue
            tensors = {TENSORS: str(shown["digest"]).removeprefix("sha256:")}
            files = shown["weights"]
            if len(files) <= 1:
                found[shown["model"]] = {
                    **({"sha256": next(iter(files.values()))} if files else {}),
                    **tensors,
                }
            else:
                found[shown["model"]] = tensors
                found |= {f"{shown['model']}/{name}": {"sha256": d} for name, d in files.items()}
    found[predicate["dataset"]["after"]] = {MANIFEST: predicate["manifest"]["after"]["root"]}
    return found


def claims_nothing_done(entry: Mapping[str, Any]) -> bool:
    """Say whether an entry calls a new version a result, though its tensors are those from before.

    A version that was left as it is, since it was trained on nothing that was erased, is its own parent.
    """
    digest = entry.get("digest")
    return digest is not None and digest == entry.get("parent_digest") and entry["model"] != entry["parent"]
