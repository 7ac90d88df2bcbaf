# SPDX-License-Identifier: Apache-2.0
"""Certificates with a valid signature and a contradiction, one for each kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from evidence.forgery import CERTIFICATE, number, resigned

from expunge.evidence import statement


@dataclass(frozen=True)
class Kind:
    """One kind of tampering.

    Attributes:
        files: The files that replace the valid ones.
        check: The check that must fail; empty: the file is no certificate (exit 2).
        says: A part of the check's detail.
        signature: Whether any DSSE implementation must refuse the signature.
        intoto: Whether an in-toto implementation must refuse the signed payload.
    """

    files: dict[str, bytes]
    check: str
    says: str
    signature: bool = False
    intoto: bool = False


def of(content: bytes, check: str, says: str, **more: bool) -> Kind:
    return Kind({CERTIFICATE: content}, check, says, **more)


def model(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda s: s["predicate"]["models"][0].update(values)


def removed(**counts: Any) -> bytes:
    return resigned(lambda s: s["predicate"]["removed"].update(counts))


def purged(at: str = "2026-03-04T09:00:00+00:00", files: int = 1) -> bytes:
    entry = {
        "plan": f"sha256:{number('purge')}",
        "at": at,
        "kinds": {"weights": {"files": files, "bytes": 9}},
    }
    return resigned(lambda s: s["predicate"]["purged"].append(entry))


def result(**values: Any) -> Callable[[dict[str, Any]], Any]:
    """Return a change of a model's entry and of its subject."""

    def change(s: dict[str, Any]) -> None:
        entry = s["predicate"]["models"][0]
        own = next(subject for subject in s["subject"] if subject["name"] == entry["model"])
        entry.update(values)
        own["name"] = entry["model"]
        own["digest"][statement.TENSORS] = entry["digest"].removeprefix("sha256:")

    return change


def contradictions() -> dict[str, Kind]:
    """Return all kinds of contradiction, by name."""
    return {
        "change-none": of(
            resigned(result(digest=f"sha256:{number('before')}")), "change", "nothing was changed"
        ),
        "change-none-audited": of(
            resigned(
                result(
                    digest=f"sha256:{number('before')}",
                    method="finetune",
                    guarantee="audited",
                    plan=None,
                    verdict="pass",
                    audit={"method": "finetune"},
                )
            ),
            "change",
            "has the tensors of m@1",
        ),
        "change-of-its-own-parent": of(
            resigned(result(model="m@1", weights={})), "change", "it is its own parent, and has two digests"
        ),
        "change-without-a-version": of(
            resigned(
                result(
                    model="m@1",
                    digest=f"sha256:{number('before')}",
                    method="finetune",
                    guarantee="audited",
                    plan=None,
                    verdict="pass",
                    audit={"method": "finetune"},
                )
            ),
            "change",
            "'finetune' was run, and nothing was changed",
        ),
        "counts-negative": of(removed(samples=-1), "statement", "predicate.removed.samples"),
        "counts-of-subjects-negative": of(removed(subjects=-1), "statement", "predicate.removed.subjects"),
        "counts-no-whole-number": of(removed(samples=2.5), "statement", "predicate.removed.samples"),
        "counts-of-truth": of(removed(samples=True), "statement", "predicate.removed.samples"),
        "counts-of-leaves-negative": of(
            resigned(lambda s: s["predicate"]["manifest"]["removed"].update(leaves=-3)),
            "statement",
            "manifest.removed.leaves",
        ),
        "counts-of-files-negative": of(purged(files=-1), "statement", "purged.0.kinds.weights.files"),
        "counts-nothing-removed": of(removed(samples=0), "manifest", "no sample was removed"),
        "counts-more-than-there-were": of(removed(samples=13), "manifest", "13 samples were removed of 12"),
        "manifest-more-removed-than-there": of(
            resigned(lambda s: s["predicate"]["manifest"]["removed"].update(leaves=13)),
            "manifest",
            "12 leaves before, less 13",
        ),
        "manifest-of-one-version": of(
            resigned(lambda s: s["predicate"]["dataset"].update(after="shop@1")), "manifest", "the version"
        ),
        "state-open-and-forgotten": of(
            resigned(lambda s: s["predicate"].update(state="running")), "manifest", "running"
        ),
        "dates-purge-before-received": of(
            purged("2026-03-01T09:00:00+00:00"), "dates", "a purge lies before"
        ),
        "dates-purge-after-issued": of(purged("2026-03-06T09:00:00+00:00"), "dates", "after 'issued'"),
        "dates-purge-without": of(purged("in March"), "dates", "no date"),
        "guarantee-exact-by-approximation": of(
            resigned(model(method="scrub")), "guarantees", "'exact' by the method 'scrub'"
        ),
        "guarantee-interim-by-approximation": of(
            resigned(model(method="finetune", guarantee="exact-interim")), "guarantees", "'finetune'"
        ),
        "guarantee-interim-without-model": of(
            resigned(model(guarantee="exact-interim", digest=None, weights={}, interim=None)),
            "guarantees",
            "without a model",
        ),
        "guarantee-certified": of(resigned(model(guarantee="certified")), "statement", "guarantee"),
        "guarantee-invented": of(
            resigned(lambda s: s["predicate"]["guarantees"].update(certified="It is gone.")),
            "guarantees",
            "'certified' is no guarantee",
        ),
        "model-without-digest-before": of(
            resigned(model(parent=None, parent_digest=None)), "models", "a digest after and none before"
        ),
        "model-without-label-before": of(resigned(model(parent=None)), "models", "a digest and no label"),
        "model-of-two-digests": of(resigned(model(parent="m@3")), "models", "one version has two digests"),
        "model-untouched-and-changed": of(resigned(model(method="none")), "models", "nothing was done"),
        "model-files-without-digest": of(resigned(model(digest=None)), "models", "files of weights"),
        "model-cost-negative": of(
            resigned(model(cost={"predicted": 0.25, "measured": -0.1})), "models", "a cost is negative"
        ),
        "model-twice": of(
            resigned(lambda s: s["predicate"]["models"].append(s["predicate"]["models"][0])),
            "models",
            "m@2: it stands there twice",
        ),
    }
