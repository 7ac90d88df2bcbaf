# SPDX-License-Identifier: Apache-2.0
"""Step 2 of a request: resolve the samples it takes out of its dataset and the models that it concerns.

Nothing is changed here.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from expunge.catalog import model_store
from expunge.catalog.dataset_store import Selection, resolve_selection, rows_to_erase
from expunge.catalog.model_store import ModelVersion
from expunge.erasure.descent import Descent, descents_before_erasure
from expunge.erasure.impact import EXACT, Adopted, Affected, Descendant, predict_impact
from expunge.erasure.least_budget import check_affordable
from expunge.erasure.method_settings import MethodSettings
from expunge.errors import InputError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from expunge.workspace import Workspace


@dataclass(frozen=True)
class ErasureRequest:
    """The arguments of ``expunge forget``: what is to be erased, and by which method.

    Attributes:
        subjects: Ids of subjects.
        samples: Paths of samples, relative to the dataset root.
        listed: Lines of a list, each the id of a subject or the path of a sample.
        class_name: A class of which all samples are erased.
        dataset: Name of the dataset; None: the only one that has the selection.
        models: Names of models; empty: all models concerned.
        method: Name of the unlearning method, or ``auto``.
        settings: Settings of the method for adopted models.
        defer: Publish the interim models now and leave the repair for later.
        delete_originals: Also delete the images and labels from the user's folder.
        confirm: Called with the preview; the request is executed only if it returns True. None: no question.
    """

    subjects: Sequence[str] = ()
    samples: Sequence[str] = ()
    listed: Sequence[str] = ()
    class_name: str | None = None
    dataset: str | None = None
    models: Sequence[str] = ()
    method: str = "auto"
    settings: MethodSettings = field(default_factory=MethodSettings)
    defer: bool = False
    delete_originals: bool = False
    confirm: Callable[[dict[str, Any]], bool] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the selection as it is stored with a request until it is closed."""
        lists = ("subjects", "samples", "listed", "models")
        return {
            **{name: list(getattr(self, name)) for name in lists},
            "class": self.class_name,
            "dataset": self.dataset,
            "delete_originals": self.delete_originals,
        }

    @classmethod
    def from_record(cls, method: str, selection: dict[str, Any]) -> ErasureRequest:
        """Return the arguments of a request that is not closed, from its row in the catalog.

        Args:
            method: Column ``method`` of the request.
            selection: Column ``selection`` of the request.
        """
        arguments = selection["asked"]
        return cls(
            subjects=tuple(arguments["subjects"]),
            samples=tuple(arguments["samples"]),
            listed=tuple(arguments["listed"]),
            class_name=arguments["class"],
            dataset=arguments["dataset"],
            models=tuple(arguments["models"]),
            method=method,
            settings=MethodSettings(**selection["settings"]),
            defer=selection["defer"],
            delete_originals=arguments["delete_originals"],
        )


@dataclass(frozen=True)
class Scope:
    """The samples that a request takes out of its dataset.

    Attributes:
        selection: The selected samples of the newest dataset version.
        taken: (path, version of arrival) of every row to erase. Older dataset versions may have rows that
            the newest lacks, and models were trained on them.
    """

    selection: Selection
    taken: frozenset[tuple[str, int]]

    @property
    def samples(self) -> int:
        """Number of samples to erase."""
        return len({path for path, _ in self.taken})


def check_method(request: ErasureRequest) -> None:
    """Check that the method suits the request and the settings suit the method.

    Raises:
        InputError: If they do not.
    """
    if request.method not in EXACT:
        from expunge.methods.base import get_method

        method, goal = get_method(request.method), "class" if request.class_name else "subject"
        method.check(request.settings.hyperparameters)
        if goal not in method.goals:
            raise InputError(
                f"The method '{method.name}' cannot erase a {goal}.",
                f"It erases: {', '.join(method.goals)}.",
                "See docs/methods, or use --method auto.",
            )
    if (request.settings.level, request.settings.references) != ("quick", None):
        from expunge.audits.audit_model import check_level
        from expunge.erasure.audit import REFERENCES

        count = request.settings.references
        check_level(
            request.settings.level, REFERENCES.get(request.settings.level, 0) if count is None else count
        )
    if request.settings.device != "cpu":
        from expunge.tasks.device import resolve_device

        resolve_device(request.settings.device)
    from expunge.unlearning.run import BUDGET, UnlearningOptions

    budget = BUDGET if request.settings.budget is None else request.settings.budget
    UnlearningOptions(budget=budget, seed=request.settings.seed)  # raises InputError for invalid values
    if request.method == "retrain":
        from expunge.methods.base import get_method

        get_method("retrain").check({"epochs": 1, **request.settings.hyperparameters})
    if request.method in EXACT and request.settings.hyperparameters and request.method != "retrain":
        raise InputError(
            f"'{sorted(request.settings.hyperparameters)[0]}' is not a setting of --method {request.method}.",
            f"--method {request.method} has no settings.",
            "Choose the method to which the setting belongs, or leave --set out.",
        )


def resolve_scope(workspace: Workspace, request: ErasureRequest) -> Scope:
    """Return the scope of a request in the newest dataset version.

    Raises:
        InputError: If it selects an unknown subject or sample, or samples of several datasets.
    """
    with workspace.session() as session:
        return scope_in_session(session, workspace.key, request)


def scope_in_session(session: Session, key: bytes, request: ErasureRequest) -> Scope:
    """Return the scope of a request, read in an open session; ``key`` is the workspace's secret."""
    selection = resolve_selection(
        session,
        key=key,
        subjects=request.subjects,
        sample_paths=request.samples,
        listed=request.listed,
        class_name=request.class_name,
        dataset=request.dataset,
    )
    rows = rows_to_erase(session, selection.version.dataset_id, set(selection.paths), set(selection.subjects))
    return Scope(selection, frozenset((row.path, row.arrived) for row in rows.values()))


def concerned_models(
    workspace: Workspace, request: ErasureRequest, scope: Scope, erased: Set[tuple[str, int]] | None = None
) -> list[ModelVersion]:
    """Return the newest versions of the models that a request concerns.

    These are the models that it names, or else all live models of the dataset and the descendants of models
    that were trained on the erased samples.

    Args:
        workspace: The workspace of the models.
        request: The request.
        scope: The request's scope.
        erased: (path, version of arrival) of all rows that the request's batch erases; None: the scope's.
    """
    return [p for p, _ in _concerned_models(workspace, request, scope, erased)]


def _concerned_models(
    workspace: Workspace,
    request: ErasureRequest,
    scope: Scope,
    erased: Set[tuple[str, int]] | None,
    locked: Container[str] = (),
) -> list[tuple[ModelVersion, Descent | None]]:
    """Return the models concerned, each with its descent; models of the dataset itself have None.

    Withdrawn models are left out: nothing is left to do for them.
    """
    dataset_id = scope.selection.version.dataset_id
    with workspace.session() as session:
        descents = descents_before_erasure(
            workspace, session, dataset_id, scope.taken if erased is None else erased
        )
        live = model_store.newest_versions(session, dataset_id)
        named = {model_store.find_model(session, ref.partition("@")[0]).name for ref in request.models}
    found: list[tuple[ModelVersion, Descent | None]]
    found = [(p, None) for p in live if not p.withdrawn and p.name not in descents]
    found += [(descent.model, descent) for descent in descents.values()]
    unrelated = {name for name in named - {p.name for p, _ in found} if name not in locked}
    for p in live:
        if p.name in unrelated and p.withdrawn:
            raise InputError(
                f"{p.label} is withdrawn.",
                f"{p.withdrawn} withdrew it, so it must not be used and need not forget anything.",
                "Leave it out. To use a model of that name again, train or adopt one.",
            )
    if unrelated:
        raise InputError(
            f"The model {sorted(unrelated)[0]!r} was not trained on {scope.selection.version.name!r}.",
            "A request concerns one dataset and the models that were trained on it.",
            "Leave out --model to update all models concerned.",
        )
    return [(p, descent) for p, descent in found if not named or p.name in named]


def affected_by(
    workspace: Workspace,
    request: ErasureRequest,
    scope: Scope,
    locked: Sequence[str] = (),
    erased: Set[tuple[str, int]] | None = None,
) -> list[Affected | Adopted | Descendant]:
    """Return the impact of an erasure on each model concerned.

    Args:
        workspace: The workspace of the models.
        request: The request.
        scope: The request's scope.
        locked: Names of the locked models, which are then the models concerned; empty: no model is locked.
        erased: (path, version of arrival) of all rows that the request's batch erases; None: the scope's.

    Raises:
        InputError: If the method, its budget or its settings do not suit a model.
    """
    taken = scope.taken if erased is None else erased
    named = {ref.partition("@")[0] for ref in request.models}
    request = replace(request, models=tuple(locked)) if locked else request
    settings = request.settings
    needs_references = settings.level != "quick" and settings.references != 0 and request.class_name is None
    models = _concerned_models(workspace, request, scope, taken, locked)
    impacts = [
        Descendant(p, descent)
        if descent is not None
        else predict_impact(
            workspace, p, taken, request.method, p.name in named, settings.hyperparameters, needs_references
        )
        for p, descent in models
    ]
    check_budgets(workspace, request, scope, [p for p, descent in models if descent is None], taken)
    return impacts


def check_budgets(
    workspace: Workspace,
    request: ErasureRequest,
    scope: Scope,
    models: Sequence[ModelVersion],
    erased: Container[tuple[str, int]],
) -> None:
    """Check that the budget allows the chosen method at least one step on each adopted model.

    Args:
        workspace: The workspace of the models.
        request: The request.
        scope: The request's scope.
        models: Newest versions of the models; only adopted ones are checked.
        erased: (path, version of arrival) of all rows to erase.

    Raises:
        InputError: If it does not; the message names the smallest budget that suffices.
    """
    if request.method in EXACT:
        return
    subjects = scope.selection.subjects
    for published in models:
        if published.plan_digest is None:
            check_affordable(
                workspace, published, erased, request.method, request.settings, subjects, request.class_name
            )


def preview(
    request: ErasureRequest, scope: Scope, impacts: Sequence[Affected | Adopted | Descendant]
) -> dict[str, Any]:
    """Return the predicted outcome, in the form of ``forget --dry-run --json``."""
    selection = scope.selection
    return {
        "dataset": selection.version.label,
        "samples": scope.samples,
        "subjects": len(selection.subjects),
        "already_erased_by": selection.already_erased_by,
        "models": [impact.preview(request.method) for impact in impacts],
    }
