# SPDX-License-Identifier: Apache-2.0
"""``expunge.Workspace``: a workspace that can open and execute erasure requests."""

from __future__ import annotations

from collections.abc import Sequence

from expunge.erasure.intake import Opening, open_request
from expunge.erasure.outcome import Outcome, Request, outcome_of
from expunge.erasure.scheduler import run_one
from expunge.erasure.scope import ErasureRequest
from expunge.workspace import Workspace as Folder


class Workspace(Folder):
    """A workspace that can open and execute erasure requests."""

    def request(
        self,
        subjects: Sequence[str] = (),
        samples: Sequence[str] = (),
        *,
        class_name: str | None = None,
        dataset: str | None = None,
        models: Sequence[str] = (),
        method: str = "auto",
        defer: bool = False,
        delete_originals: bool = False,
        recipients: Sequence[str] = (),
        **opening: str | None,
    ) -> Request:
        """Open an erasure request without executing it; pass the result to ``run``.

        The arguments are those of ``expunge request open``.

        Args:
            subjects: Ids of subjects to erase.
            samples: Paths of samples to erase, relative to the dataset root.
            class_name: A class of which all samples are erased.
            dataset: Name of the dataset.
            models: Names of the models to update; empty: all models that were trained on the samples.
            method: Name of the unlearning method, or ``auto``.
            defer: Publish the interim models now and leave the repair for later.
            delete_originals: Also delete the images and labels from the user's folder.
            recipients: Names of those to whom the data was disclosed.
            opening: ``received``, ``key``, ``ground``, … of :class:`expunge.erasure.intake.Opening`.
        """
        request = ErasureRequest(
            subjects=tuple(subjects),
            samples=tuple(samples),
            class_name=class_name,
            dataset=dataset,
            models=tuple(models),
            method=method,
            defer=defer,
            delete_originals=delete_originals,
        )
        record = open_request(self, request, Opening(recipients=tuple(recipients), **opening))
        return Request(record["request"], request, record)

    def run(self, request: Request | str, actor: str | None = None) -> Outcome:
        """Approve a request and execute it now, as ``expunge forget --yes`` does.

        Args:
            request: The return value of ``request``, or a request's id.
            actor: Name of the person who approves and runs it; None: the user of the operating system.

        Raises:
            InputError: If a second person must approve the request first, or it was refused.
        """
        return outcome_of(run_one(self, request, actor))
