# SPDX-License-Identifier: Apache-2.0
"""The function of each kind of job. They call the same functions as the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from expunge.errors import BusyError, ExpungeError, InputError, Preempted
from expunge.progress import Progress
from expunge.web.jobs import job_store
from expunge.web.jobs.job_store import Job

if TYPE_CHECKING:
    from expunge.workspace import Workspace

MODEL_KEYS = (
    "model",
    "parent",
    "method",
    "digest",
    "guarantee",
    "verdict",
    "cost_predicted",
    "cost_measured",
)


class JobFailed(Exception):
    """A job failed completely or in part. ``result`` holds the finished part."""

    def __init__(self, result: Mapping[str, Any], error: Mapping[str, Any]) -> None:
        super().__init__(error["error"])
        self.result, self.error = dict(result), dict(error)


def run(workspace: Workspace, job: Job, progress: Progress) -> dict[str, Any]:
    """Execute the given requests, or all that must be executed now."""
    from expunge.erasure.scheduler import QueueSelection
    from expunge.erasure.scheduler import run as execute

    ids = tuple(job.parameters.get("requests", ()))
    done = execute(workspace, QueueSelection(ids=ids, due=not ids), progress, job.account)
    result = {"requests": [_outcome(outcome) for outcome in done.outcomes.values()]}
    preempted = [f for f in done.failed if isinstance(f.error, Preempted)]
    failed = [f for f in done.failed if not isinstance(f.error, Preempted)]
    result["gave_way"] = [{"request": i} for f in preempted for i in f.ids]
    if failed and all(isinstance(f.error, BusyError) for f in failed) and not done.outcomes:
        raise failed[0].error  # nothing was started: wait for the other process
    if failed:
        raise JobFailed(result, {**redact(failed[0].error), "requests": [i for f in failed for i in f.ids]})
    return result


def audit(workspace: Workspace, job: Job, progress: Progress) -> dict[str, Any]:
    """Audit a model for a request."""
    from expunge.catalog.model_store import find_model
    from expunge.erasure.audit import audit_model
    from expunge.erasure.audit_case import AuditOptions

    parameters = job.parameters
    with workspace.session() as session:
        label = find_model(session, parameters["model"]).label
    question = AuditOptions(label, parameters["request"], parameters.get("level", "quick"))
    stem = f"{question.request}-{question.model.replace('@', '-')}-{question.level}"
    workspace.audits.mkdir(mode=0o700, exist_ok=True)
    report = audit_model(workspace, question, progress, workspace.audits / f"{stem}.html")
    return {
        "audit": stem,
        "model": report["model"],
        "verdict": report["verdict"],
        "reasons": report["reasons"],
    }


def verify(workspace: Workspace, job: Job, progress: Progress) -> dict[str, Any]:
    """Verify a request's certificate or a model, with a replay if the job asks for one."""
    from expunge.evidence import verifier

    options = verifier.VerifyOptions(replay=bool(job.parameters.get("replay")))
    return verifier.verify(workspace, job.parameters["target"], options, progress)


def compare(workspace: Workspace, job: Job, progress: Progress) -> dict[str, Any]:
    """Run the detectors before and after a request on a few images; the result holds boxes and row ids."""
    from expunge.models.comparison import compare as compare_detectors

    return compare_detectors(workspace, job.parameters["request"], progress)


def redact(error: ExpungeError) -> dict[str, str]:
    """Return an error in the form that a job may store. The text of input errors may name a person."""
    if isinstance(error, InputError):
        return {
            "error": "The job could not be done.",
            "reason": "Its input is not valid any more.",
            "next": "Check the request, or run the command in a shell to see the full error.",
        }
    return error.as_json()


def _outcome(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of an outcome that name no subject and no file."""
    models = [
        {k: m.get(k) for k in MODEL_KEYS} | {"accepted": m.get("accepted", True)} for m in outcome["models"]
    ]
    return {
        "request": outcome["request"],
        "state": outcome["state"],
        "originals_left": outcome.get("originals_left"),
        "models": models,
    }


WORK: dict[str, Callable[[Workspace, Job, Progress], dict[str, Any]]] = {
    job_store.RUN: run,
    job_store.RUN_DUE: run,
    job_store.AUDIT: audit,
    job_store.VERIFY: verify,
    job_store.COMPARE: compare,
}
