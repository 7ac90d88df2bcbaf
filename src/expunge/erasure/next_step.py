# SPDX-License-Identifier: Apache-2.0
"""Tells a person the next step that leads a request towards its closing, for every state of a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from expunge.catalog import model_store, request_store, states
from expunge.catalog.model_store import ModelVersion
from expunge.catalog.states import State
from expunge.catalog.tables import RequestEventRow, RequestRow
from expunge.erasure import holds
from expunge.erasure.approximate import MissingOriginals
from expunge.erasure.skipped_models import find_left_out
from expunge.errors import EnvironmentChanged
from expunge.exact.damaged_files import DamagedData, remedies
from expunge.exact.model import plan_file
from expunge.purge.originals import find_originals

if TYPE_CHECKING:
    from expunge.workspace import Workspace


@dataclass(frozen=True)
class NextStep:
    """Instructions for the next step.

    Attributes:
        text: Instructions in sentences.
        commands: The commands to choose from, the recommended one first; words in capitals are placeholders.
    """

    text: str
    commands: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the fields that ``request show --json`` prints."""
        return {"next": self.text, "next_commands": list(self.commands)}


NOTHING = NextStep("", ())  # of a closed request


def next_step(workspace: Workspace, request_id: str) -> NextStep:
    """Return the next step of a request; empty for a closed one.

    Raises:
        NotFound: If there is no such request.
    """
    with workspace.session() as session:
        row = model_store.get_request(session, request_id)
        dataset = request_store.dataset_name(session, row)
        failure = session.scalars(
            select(RequestEventRow.reason)
            .where(RequestEventRow.request_id == request_id, RequestEventRow.target == State.FAILED)
            .order_by(RequestEventRow.id.desc())
            .limit(1)
        ).first()
        held = holds.held(session, workspace.settings.audit.attempts)
        own_holds = [hold for hold in held.values() if request_id in hold.requests]
        models = [
            p for p in model_store.newest_versions(session) if p.name in row.selection.get("models", [])
        ]
        session.expunge(row)
    state = State(row.state)
    if state in states.WAITING_STATES or state == State.REFUSED:
        return _undecided(workspace, row)
    if state in states.RUNNING_STATES:
        reason = failure if state == State.FAILED else None
        return _underway(workspace, row, dataset, reason, own_holds, models)
    if state in states.EXECUTED_STATES:
        return _ending(workspace, row)
    return NOTHING


def _undecided(workspace: Workspace, row: RequestRow) -> NextStep:
    """Return the next step of a request whose execution has not begun, or that was refused."""
    if row.state == State.REFUSED:
        notice = f"expunge request refuse {row.id} --told DATE"
        return NextStep(
            f"Notify the person of the refusal and its reason. Then record the day: `{notice}`.", (notice,)
        )
    if row.state == State.APPROVED:
        run = f"expunge request run {row.id}"
        return NextStep(f"It is approved, and nothing is erased yet. Execute it: `{run}`.", (run,))
    approve, refuse = f"expunge request approve {row.id}", f"expunge request refuse {row.id} --reason NAME"
    who = f"Somebody other than {row.opened_by}" if workspace.settings.approval.four_eyes else "Somebody"
    return NextStep(f"{who} approves it: `{approve}`, or refuses it: `{refuse}`.", (approve, refuse))


def _underway(
    workspace: Workspace,
    row: RequestRow,
    dataset: str,
    failure: str | None,
    held: list[holds.HeldModel],
    models: list[ModelVersion],
) -> NextStep:
    """Return the next step of a request whose execution has begun.

    Args:
        workspace: The workspace of the request.
        row: The request.
        dataset: Name of its dataset.
        failure: Class name of the error with which its last run failed, if it did.
        held: Its models whose unlearning is on hold.
        models: Newest versions of its models.
    """
    run = f"expunge request run {row.id}"
    if row.version_after is None:
        refuse = f"expunge request refuse {row.id} --reason NAME"
        return NextStep(
            f"Its run was refused, and nothing is erased. `{run}` tries again and says why. If it cannot be"
            f" done as it was opened, open it anew with other options, and refuse this one: `{refuse}`.",
            (run, refuse),
        )
    if held:
        commands = [c for hold in held for c in hold.commands(dataset)]
        text = " ".join(f"{hold.reason} {hold.next_step}" for hold in held)
        return NextStep(text, tuple(dict.fromkeys(commands)))
    if failure == DamagedData.__name__:
        return _damaged(workspace, row, dataset, models, run)
    if failure == MissingOriginals.__name__:
        anew = f"{run} --method retrain"
        return NextStep(
            "Pictures that a model has to forget are gone or changed. Restore them for the time of the"
            f" unlearning, and run it again: `{run}`. Or train anew, which opens none of them: `{anew}`.",
            (anew, run),
        )
    if failure == EnvironmentChanged.__name__:
        anew = f"{run} --method retrain"
        return NextStep(
            "The checkpoints were made in another environment. Run it again in that one, or train everything"
            f" anew in this one: `{anew}`.",
            (anew, run),
        )
    if row.state == State.FAILED:
        return NextStep(f"Its run failed. Run it again: `{run}`; it goes on from where it was.", (run,))
    waits = "The repair waits" if row.selection.get("defer") else "It is not finished"
    return NextStep(f"{waits}. If no command is at work on it, finish it: `{run}`.", (run,))


def _damaged(
    workspace: Workspace, row: RequestRow, dataset: str, models: list[ModelVersion], run: str
) -> NextStep:
    """Return the remedies for damaged training files, for each model that is not finished."""
    commands = [run, f"expunge forget --dataset {dataset} --sample PATH"]
    done = {m["model"].partition("@")[0] for m in (row.result or {}).get("models", []) if m["digest"]}
    texts = ["Training files are missing or changed; `" + run + "` lists them."]
    for published in models:
        if published.plan_digest is None or published.name in done:
            continue
        plan = plan_file(workspace, published.plan_digest)
        texts += remedies(published.name, plan, dataset, gone=False)
        commands.append(f"expunge train {dataset} --name {published.name} --plan {plan}")
    texts.append(f"Add --full where files are gone for good. Then run it again: `{run}`.")
    return NextStep(" ".join(texts), tuple(commands))


def _ending(workspace: Workspace, row: RequestRow) -> NextStep:
    """Return the next step of a request that is executed and not closed."""
    run = f"expunge request run {row.id}"
    if names := find_left_out(workspace, row.id):
        return NextStep(
            f"Models that were left out still hold the erased data: {', '.join(names)}."
            f" `{run}` updates them.",
            (run,),
        )
    if remaining := sum(1 for _ in find_originals(workspace, row.id)):
        return NextStep(
            f"{remaining} of the erased files are still in the dataset's own folder. Delete them, then close"
            f" it: `{run}`.",
            (run,),
        )
    return NextStep(f"Nothing is left to do. Close it: `{run}`.", (run,))
