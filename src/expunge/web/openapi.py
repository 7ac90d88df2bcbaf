# SPDX-License-Identifier: Apache-2.0
"""The description of the API: FastAPI's, with the problems and with who may call what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, iter_route_contexts

from expunge.web.problems import Problem
from expunge.web.security import COOKIE, identity

SIGNED_IN = "signed in"  # any account, whatever its role
SCHEMES = {
    "token": {"type": "http", "scheme": "bearer", "description": "A token, made under `tokens`."},
    "cookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": "A signed-in browser; what changes something needs X-CSRF-Token, too.",
    },
}
TEMPLATE = "#/components/schemas/{model}"


@dataclass(frozen=True)
class Served:
    """One route with one method.

    Attributes:
        method: In capitals.
        path: With its placeholders.
        needs: The permission that it takes, ``SIGNED_IN``, or None if anybody may call it.
        documented: Whether it is in the API's description.
    """

    method: str
    path: str
    needs: str | None
    documented: bool


def served(app: FastAPI) -> list[Served]:
    """Return all that an application answers, but for static files."""
    return [
        Served(method, str(context.path), needed(context.dependant), context.include_in_schema)
        for context in iter_route_contexts(app.routes)
        if isinstance(context.original_route, APIRoute)
        for method in sorted(context.methods or ())
    ]


def needed(dependant: Dependant) -> str | None:
    """Return what a route takes; see :class:`Served`.

    Raises:
        ValueError: If it takes several permissions: then nobody could tell which is meant.
    """
    found = {_of(inner) for inner in _all(dependant)} - {None}
    permissions = found - {SIGNED_IN}
    if len(permissions) > 1:
        raise ValueError(f"several permissions: {sorted(map(str, permissions))}")
    return next(iter(permissions or found), None)


def install(app: FastAPI) -> None:
    """Make the application describe itself so."""

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _described(app)
        return app.openapi_schema

    app.openapi = describe  # type: ignore[method-assign]  # FastAPI's way


def _described(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    components = document.setdefault("components", {})
    problem = Problem.model_json_schema(ref_template=TEMPLATE)
    components["schemas"] |= {**problem.pop("$defs", {}), "Problem": problem}
    components["securitySchemes"] = SCHEMES
    for route in served(app):
        if route.documented and route.needs is not None:
            operation = document["paths"][route.path][route.method.lower()]
            operation["security"] = [{name: []} for name in SCHEMES]
            if route.needs != SIGNED_IN:
                operation["description"] += f"\n\nTakes the permission `{route.needs}`."
    return document


def _all(dependant: Dependant) -> list[Dependant]:
    return [dependant, *(found for inner in dependant.dependencies for found in _all(inner))]


def _of(dependant: Dependant) -> str | None:
    if dependant.call is identity:
        return SIGNED_IN
    return getattr(dependant.call, "permission", None)
