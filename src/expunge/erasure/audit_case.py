# SPDX-License-Identifier: Apache-2.0
"""Input of an audit: its options, and the models and samples that it compares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from expunge.catalog.model_store import ModelVersion

if TYPE_CHECKING:
    from expunge.data.types import Sample, Version


@dataclass(frozen=True)
class AuditOptions:
    """Options of an audit.

    Attributes:
        model: The candidate, as ``MODEL[@V]``.
        request: Id of the request for which it is audited.
        level: ``quick``, ``standard`` or ``full``.
        references: Number of reference models; None: 2 for ``standard``, 19 for ``full``.
        epochs: Number of epochs of a reference's training; None: that of the original model, on record.
        allowed_drop: Largest allowed decrease of the main metric, in its units.
        device: Torch device of the computation.
        jobs: Number of parallel trainings; 0: as many as the cores allow.
        threads: Number of torch threads of each training.
        seed: Seed of references, probes and resampling.
        probes: Names of probes to report without a verdict; see
            :data:`expunge.audits.probes.results.PROBES`.
    """

    model: str
    request: str
    level: str = "quick"
    references: int | None = None
    epochs: int | None = None
    allowed_drop: float = 0.02
    device: str = "cpu"
    jobs: int = 0
    threads: int = 1
    seed: int = 0
    probes: tuple[str, ...] = ()


@dataclass(frozen=True)
class AuditCase:
    """The models and samples of an audit.

    Attributes:
        candidate: The version to audit.
        original: The version before the request.
        version: The dataset version on which both were trained.
        retained: Its samples that are not erased.
        forgotten: Its samples that the request erased.
        class_name: The class that the request removed, if any.
        left_out: Number of files that cannot be read and are left out.
    """

    candidate: ModelVersion
    original: ModelVersion
    version: Version
    retained: list[Sample]
    forgotten: list[Sample]
    class_name: str | None
    left_out: int = 0
