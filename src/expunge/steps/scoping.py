# SPDX-License-Identifier: Apache-2.0
"""What a request takes out of its dataset, and which models that concerns; nothing is changed here."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from expunge.catalog import models as catalog
from expunge.catalog.datasets import Selection, resolve_selection, rows_taken
from expunge.catalog.models import Published
from expunge.errors import InputError
from expunge.steps import descent
from expunge.steps.affected import EXACT, Adopted, Affected, Descendant, affected
from expunge.steps.affordable import check_affordable
from expunge.steps.approximation import Settings
from expunge.steps.descent import Descent

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from expunge.workspace import Workspace


@dataclass(frozen=True)
class Ask:
    """What somebody wants forgotten, and how (the arguments of ``expunge forget``)."""

    subjects: Sequence[str] = ()
    samples: Sequence[str] = ()
    listed: Sequence[str] = ()
    class_name: str | None = None
    dataset: str | None = None
    models: Sequence[str] = ()
    method: str = "auto"
    settings: Settings = field(default_factory=Settings)
    defer: bool = False
    delete_originals: bool = False
    confirm: Callable[[dict[str, Any]], bool] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return what is kept with a request until it is closed."""
        kept = ("subjects", "samples", "listed", "models")
        return {
            **{name: list(getattr(self, name)) for name in kept},
            "class": self.class_name,
            "dataset": self.dataset,
            "delete_originals": self.delete_originals,
        }

    @classmethod
    def from_record(cls, method: str, selection: dict[str, Any]) -> Ask:
        """Return what a request in the catalog asks for, while it still knows."""
        asked = selection["asked"]
        return cls(
            subjects=tuple(asked["subjects"]),
            samples=tuple(asked["samples"]),
            listed=tuple(asked["listed"]),
            class_name=asked["class"],
            dataset=asked["dataset"],
            models=tuple(asked["models"]),
            method=method,
            settings=Settings(**selection["settings"]),
            defer=selection["defer"],
            delete_originals=asked["delete_originals"],
        )


@dataclass(frozen=True)
class Scope:
    """What a request takes out of its dataset.

    Attributes:
        selection: What was asked for, in the newest version.
        taken: Path and version of arrival of every row that goes; older versions may have more than the
            newest, and models saw them.
    """

    selection: Selection
    taken: frozenset[tuple[str, int]]

    @property
    def samples(self) -> int:
        """How many samples go."""
        return len({path for path, _ in self.taken})


def check_method(ask: Ask) -> None:
    """Refuse a method that does not fit what is asked for, or settings that do not fit the method.

    Raises:
        InputError: If so.
    """
    if ask.method not in EXACT:
        from expunge.methods.base import get_method

        method, goal = get_method(ask.method), "class" if ask.class_name else "subject"
        method.check(ask.settings.hyperparameters)
        if goal not in method.goals:
            raise InputError(
                f"The method '{method.name}' is not for this request.",
                f"It is for: {', '.join(method.goals)}.",
                "See docs/methods, or use --method auto.",
            )
    if (ask.settings.level, ask.settings.references) != ("quick", None):
        from expunge.steps.audits import REFERENCES
        from expunge.unlearning.auditing import check_level

        count = ask.settings.references
        check_level(ask.settings.level, REFERENCES.get(ask.settings.level, 0) if count is None else count)
    if ask.settings.device != "cpu":
        from expunge.tasks.device import resolve_device

        resolve_device(ask.settings.device)
    from expunge.unlearning.run import BUDGET, Terms

    budget = ask.settings.budget
    Terms(budget=BUDGET if budget is None else budget, seed=ask.settings.seed)  # refuses what cannot be
    if ask.method == "retrain":
        from expunge.methods.base import get_method

        get_method("retrain").check({"epochs": 1, **ask.settings.hyperparameters})
    if ask.method in EXACT and ask.settings.hyperparameters and ask.method != "retrain":
        raise InputError(
            f"'{sorted(ask.settings.hyperparameters)[0]}' is a setting of one method.",
            f"--method {ask.method} has none.",
            "Name the method, or leave --set out.",
        )


def scope_of(workspace: Workspace, ask: Ask) -> Scope:
    """Find what a request means now.

    Raises:
        InputError: If it selects something unknown, or in several datasets.
    """
    with workspace.session() as session:
        return scope_in(session, workspace.key, ask)


def scope_in(session: Session, key: bytes, ask: Ask) -> Scope:
    """The same within a session."""
    selection = resolve_selection(
        session,
        key=key,
        subjects=ask.subjects,
        sample_paths=ask.samples,
        listed=ask.listed,
        class_name=ask.class_name,
        dataset=ask.dataset,
    )
    rows = rows_taken(session, selection.version.dataset_id, set(selection.paths), set(selection.subjects))
    return Scope(selection, frozenset((row.path, row.arrived) for row in rows.values()))


def concerned(
    workspace: Workspace, ask: Ask, scope: Scope, gone: Set[tuple[str, int]] | None = None
) -> list[Published]:
    """The models named, or all live ones of the dataset and those that descend from one that saw it.

    Args:
        workspace: Where they are known.
        ask: What names them.
        scope: What goes.
        gone: All that goes, where other requests go with this one.
    """
    return [p for p, _ in _concerned(workspace, ask, scope, gone)]


def _concerned(
    workspace: Workspace,
    ask: Ask,
    scope: Scope,
    gone: Set[tuple[str, int]] | None,
    locked: Container[str] = (),
) -> list[tuple[Published, Descent | None]]:
    """Those of the dataset first; models that are withdrawn already need nothing more."""
    dataset_id = scope.selection.version.dataset_id
    with workspace.session() as session:
        heirs = descent.descents(workspace, session, dataset_id, scope.taken if gone is None else gone)
        live = catalog.live(session, dataset_id)
        named = {catalog.find_model(session, ref.partition("@")[0]).name for ref in ask.models}
    found: list[tuple[Published, Descent | None]]
    found = [(p, None) for p in live if not p.withdrawn and p.name not in heirs]
    found += [(heir.model, heir) for heir in heirs.values()]
    strangers = {name for name in named - {p.name for p, _ in found} if name not in locked}
    for p in live:
        if p.name in strangers and p.withdrawn:
            raise InputError(
                f"{p.label} is withdrawn.",
                f"{p.withdrawn} withdrew it: nothing of it is in use that could forget.",
                "Leave it out. To use a model of that name again, train or adopt one.",
            )
    if strangers:
        raise InputError(
            f"The model {sorted(strangers)[0]!r} was not trained on {scope.selection.version.name!r}.",
            "A request concerns one dataset and the models that saw it.",
            "Leave out --model to reach all models concerned.",
        )
    return [(p, heir) for p, heir in found if not named or p.name in named]


def affected_by(
    workspace: Workspace,
    ask: Ask,
    scope: Scope,
    locked: Sequence[str] = (),
    gone: Set[tuple[str, int]] | None = None,
) -> list[Affected | Adopted | Descendant]:
    """What erasing means for the models concerned, or for those that were locked.

    Args:
        workspace: Where they are known.
        ask: How to forget.
        scope: What it takes out.
        locked: The models that were locked.
        gone: All that goes, where other requests go with this one.
    """
    taken = scope.taken if gone is None else gone
    named = {ref.partition("@")[0] for ref in ask.models}
    ask = replace(ask, models=tuple(locked)) if locked else ask
    how = ask.settings
    compares = how.level != "quick" and how.references != 0 and ask.class_name is None
    models = _concerned(workspace, ask, scope, taken, locked)
    found = [
        Descendant(p, heir)
        if heir is not None
        else affected(workspace, p, taken, ask.method, p.name in named, how.hyperparameters, compares)
        for p, heir in models
    ]
    check_budgets(workspace, ask, scope, [p for p, heir in models if heir is None], taken)
    return found


def check_budgets(
    workspace: Workspace,
    ask: Ask,
    scope: Scope,
    models: Sequence[Published],
    gone: Container[tuple[str, int]],
) -> None:
    """Refuse a budget with which the method that is named could not make one step on an adopted model.

    Raises:
        InputError: With the smallest budget that suffices.
    """
    if ask.method in EXACT:
        return
    subjects = scope.selection.subjects
    for published in models:
        if published.plan_digest is None:
            check_affordable(workspace, published, gone, ask.method, ask.settings, subjects, ask.class_name)


def preview(ask: Ask, scope: Scope, found: Sequence[Affected | Adopted | Descendant]) -> dict[str, Any]:
    """What erasing would do, in the form of ``forget --dry-run --json``."""
    selection = scope.selection
    return {
        "dataset": selection.version.label,
        "samples": scope.samples,
        "subjects": len(selection.subjects),
        "already_erased_by": selection.already_erased_by,
        "models": [a.preview(ask.method) for a in found],
    }
