# SPDX-License-Identifier: Apache-2.0
"""What a person does next about a request, so that it is closed: one answer for every state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from expunge.catalog import models as catalog
from expunge.catalog import requests as queue
from expunge.catalog import states
from expunge.catalog.models import Published
from expunge.catalog.states import State
from expunge.catalog.tables import RequestEventRow, RequestRow
from expunge.errors import EnvironmentChanged
from expunge.exact.damage import DamagedData, ways_out
from expunge.exact.model import plan_file
from expunge.queue import attempts
from expunge.queue.leftout import left_out
from expunge.queue.originals import originals
from expunge.steps.approximation import MissingOriginals

if TYPE_CHECKING:
    from expunge.workspace import Workspace


@dataclass(frozen=True)
class NextStep:
    """What to do next.

    Attributes:
        text: In sentences.
        commands: Those that lead on, the recommended one first; capitals stand for what a person fills in.
    """

    text: str
    commands: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return what ``request show --json`` prints."""
        return {"next": self.text, "next_commands": list(self.commands)}


NOTHING = NextStep("", ())  # of a closed request


def next_step(workspace: Workspace, request_id: str) -> NextStep:
    """Return what leads a request on towards its end.

    Raises:
        NotFound: If there is no such request.
    """
    with workspace.session() as session:
        row = catalog.get_request(session, request_id)
        dataset = queue.dataset_name(session, row)
        failure = session.scalars(
            select(RequestEventRow.reason)
            .where(RequestEventRow.request_id == request_id, RequestEventRow.target == State.FAILED)
            .order_by(RequestEventRow.id.desc())
            .limit(1)
        ).first()
        held = attempts.held(session, workspace.settings.audit.attempts)
        mine = [hold for hold in held.values() if request_id in hold.requests]
        models = [p for p in catalog.live(session) if p.name in row.selection.get("models", [])]
        session.expunge(row)
    state = State(row.state)
    if state in states.WAITING or state == State.REFUSED:
        return _undecided(workspace, row)
    if state in states.UNDERWAY:
        reason = failure if state == State.FAILED else None
        return _underway(workspace, row, dataset, reason, mine, models)
    if state in states.ENDING:
        return _ending(workspace, row)
    return NOTHING


def _undecided(workspace: Workspace, row: RequestRow) -> NextStep:
    if row.state == State.REFUSED:
        told = f"expunge request refuse {row.id} --told DATE"
        return NextStep(f"Tell the person, with the reason. Then record the day: `{told}`.", (told,))
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
    held: list[attempts.Held],
    models: list[Published],
) -> NextStep:
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
    workspace: Workspace, row: RequestRow, dataset: str, models: list[Published], run: str
) -> NextStep:
    """The ways out that the error named, with the names of this request's models."""
    commands = [run, f"expunge forget --dataset {dataset} --sample PATH"]
    done = {m["model"].partition("@")[0] for m in (row.result or {}).get("models", []) if m["digest"]}
    texts = ["Training files are missing or changed; `" + run + "` lists them."]
    for published in models:
        if published.plan_digest is None or published.name in done:
            continue
        plan = plan_file(workspace, published.plan_digest)
        texts += ways_out(published.name, plan, dataset, gone=False)
        commands.append(f"expunge train {dataset} --name {published.name} --plan {plan}")
    texts.append(f"Add --full where files are gone for good. Then run it again: `{run}`.")
    return NextStep(" ".join(texts), tuple(commands))


def _ending(workspace: Workspace, row: RequestRow) -> NextStep:
    run = f"expunge request run {row.id}"
    if names := left_out(workspace, row.id):
        return NextStep(
            f"Models that were left out still hold what was erased: {', '.join(names)}."
            f" `{run}` takes them up.",
            (run,),
        )
    if left := sum(1 for _ in originals(workspace, row.id)):
        return NextStep(
            f"{left} of the erased files are still in the dataset's own folder. Delete them, then close it:"
            f" `{run}`.",
            (run,),
        )
    return NextStep(f"Nothing is left to do. Close it: `{run}`.", (run,))
