# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document: FastAPI's, extended by problem details and by the permission of each route."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, iter_route_contexts

from expunge.web.auth.access import COOKIE, identity
from expunge.web.problems import Problem

SIGNED_IN = "signed in"  # any account, whatever its role
SCHEMES = {
    "token": {"type": "http", "scheme": "bearer", "description": "A token, made under `tokens`."},
    "cookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": "A signed-in browser. Requests that change data also need X-CSRF-Token.",
    },
}
TEMPLATE = "#/components/schemas/{model}"


@dataclass(frozen=True)
class ServedRoute:
    """A route with one method.

    Attributes:
        method: HTTP method, in capitals.
        path: Path with placeholders.
        needs: The required permission, ``SIGNED_IN``, or None if anybody may call it.
        documented: Whether it is in the OpenAPI document.
    """

    method: str
    path: str
    needs: str | None
    documented: bool


def served_routes(app: FastAPI) -> list[ServedRoute]:
    """Return all routes of an application, except static files."""
    return [
        ServedRoute(
            method, str(context.path), required_permission(context.dependant), context.include_in_schema
        )
        for context in iter_route_contexts(app.routes)
        if isinstance(context.original_route, APIRoute)
        for method in sorted(context.methods or ())
    ]


def required_permission(dependant: Dependant) -> str | None:
    """Return what a route requires (see :class:`Served`).

    Raises:
        ValueError: If it requires several permissions, which the document cannot express.
    """
    found = {_requirement(inner) for inner in _flatten(dependant)} - {None}
    permissions = found - {SIGNED_IN}
    if len(permissions) > 1:
        raise ValueError(f"several permissions: {sorted(map(str, permissions))}")
    return next(iter(permissions or found), None)


def install(app: FastAPI) -> None:
    """Replace the application's OpenAPI document by the extended one."""

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = describe  # type: ignore[method-assign]  # as FastAPI documents it


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    components = document.setdefault("components", {})
    problem = Problem.model_json_schema(ref_template=TEMPLATE)
    components["schemas"] |= {**problem.pop("$defs", {}), "Problem": problem}
    components["securitySchemes"] = SCHEMES
    for route in served_routes(app):
        if route.documented and route.needs is not None:
            operation = document["paths"][route.path][route.method.lower()]
            operation["security"] = [{name: []} for name in SCHEMES]
            if route.needs != SIGNED_IN:
                operation["description"] += f"\n\nRequires the permission `{route.needs}`."
    return document


def _flatten(dependant: Dependant) -> list[Dependant]:
    return [dependant, *(found for inner in dependant.dependencies for found in _flatten(inner))]


def _requirement(dependant: Dependant) -> str | None:
    if dependant.call is identity:
        return SIGNED_IN
    return getattr(dependant.call, "permission", None)
