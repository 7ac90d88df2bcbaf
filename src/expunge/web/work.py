# SPDX-License-Identifier: Apache-2.0
"""What each kind of job does: it calls what the command line calls, and keeps what names nobody."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from expunge.errors import BusyError, ExpungeError, InputError, Preempted
from expunge.progress import Progress
from expunge.web import jobs
from expunge.web.jobs import Job

if TYPE_CHECKING:
    from expunge.workspace import Workspace

KEPT = ("model", "parent", "method", "digest", "guarantee", "verdict", "cost_predicted", "cost_measured")


class Failed(Exception):
    """The work was not done, or not all of it; what was done is kept."""

    def __init__(self, result: Mapping[str, Any], error: Mapping[str, Any]) -> None:
        super().__init__(error["error"])
        self.result, self.error = dict(result), dict(error)


def run(workspace: Workspace, job: Job, progress: Progress) -> dict[str, Any]:
    """Execute requests, or all that must be executed now."""
    from expunge.queue.batch import Chosen
    from expunge.queue.batch import run as execute

    wanted = tuple(job.parameters.get("requests", ()))
    done = execute(workspace, Chosen(ids=wanted, due=not wanted), progress, job.account)
    result = {"requests": [_outcome(outcome) for outcome in done.outcomes.values()]}
    gave_way = [f for f in done.failed if isinstance(f.error, Preempted)]
    others = [f for f in done.failed if not isinstance(f.error, Preempted)]
    result["gave_way"] = [{"request": i} for f in gave_way for i in f.ids]
    if others and all(isinstance(f.error, BusyError) for f in others) and not done.outcomes:
        raise others[0].error  # nothing was begun: wait for whoever works on it
    if others:
        raise Failed(result, {**told(others[0].error), "requests": [i for f in others for i in f.ids]})
    return result


def audit(workspace: Workspace, job: Job, progress: Progress) -> dict[str, Any]:
    """Audit a model for a request."""
    from expunge.catalog.models import find_model
    from expunge.steps.audits import Question, audit_model

    asked = job.parameters
    with workspace.session() as session:
        label = find_model(session, asked["model"]).label
    question = Question(label, asked["request"], asked.get("level", "quick"))
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
    """Verify a request's certificate or a model, by training again where that is asked for."""
    from expunge.evidence import verify as evidence

    means = evidence.Means(replay=bool(job.parameters.get("replay")))
    return evidence.verify(workspace, job.parameters["target"], means, progress)


def compare(workspace: Workspace, job: Job, progress: Progress) -> dict[str, Any]:
    """Run the detectors of before and after a request on a few pictures; boxes and row numbers are kept."""
    from expunge.comparison import compare as look

    return look(workspace, job.parameters["request"], progress)


def told(error: ExpungeError) -> dict[str, str]:
    """Return what a job may keep of an error: of bad input no words, as they may name somebody."""
    if isinstance(error, InputError):
        return {
            "error": "It could not be done.",
            "reason": "Something that it names does not fit any more.",
            "next": "Look at what it asks for, or run it from the shell to see the error's words.",
        }
    return error.as_json()


def _outcome(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """Of an outcome what names no subject and no file."""
    models = [{k: m.get(k) for k in KEPT} | {"accepted": m.get("accepted", True)} for m in outcome["models"]]
    return {
        "request": outcome["request"],
        "state": outcome["state"],
        "originals_left": outcome.get("originals_left"),
        "models": models,
    }


WORK: dict[str, Callable[[Workspace, Job, Progress], dict[str, Any]]] = {
    jobs.RUN: run,
    jobs.RUN_DUE: run,
    jobs.AUDIT: audit,
    jobs.VERIFY: verify,
    jobs.COMPARE: compare,
}
