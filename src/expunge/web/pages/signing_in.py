# SPDX-License-Identifier: Apache-2.0
"""Pages for signing in and out, and for choosing a password with a one-time link."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from starlette.responses import RedirectResponse, Response

from expunge.errors import ExpungeError, InputError
from expunge.web.auth import links, passwords, sessions
from expunge.web.auth.access import (
    Identity,
    address_of,
    drop_cookie,
    identity,
    known_identity,
    set_cookie,
    settings_of,
    workspace_of,
)
from expunge.web.pages.view import go, inside, page, problem_context

router = APIRouter()


@router.get("/")
def home(request: Request, me: Annotated[Identity, Depends(identity)]) -> Response:
    """Redirect to the queue."""
    return RedirectResponse("/requests", 303)


@router.get("/login")
def login_form(request: Request, next: str = "/") -> Response:
    """Show the form for signing in."""
    if known_identity(request) is not None:
        return go(inside(next))
    return page(request, "login", name="", next=inside(next))


@router.post("/login")
def login(
    request: Request,
    name: Annotated[str, Form()] = "",
    password: Annotated[str, Form()] = "",
    next: Annotated[str, Form()] = "/",
) -> Response:
    """Sign in."""
    workspace, settings = workspace_of(request), settings_of(request)
    try:
        signed = sessions.sign_in(workspace, settings, name, password, address_of(request))
    except ExpungeError as error:
        status, problem = problem_context(workspace, error)
        return page(request, "login", status, name=name, next=inside(next), problem=problem)
    response = go(inside(next))
    set_cookie(response, settings, signed)
    return response


@router.post("/logout")
def logout(request: Request, me: Annotated[Identity, Depends(identity)]) -> Response:
    """Sign out. The session ends on the server, not only in the browser."""
    if me.session is not None:
        sessions.end(workspace_of(request), me.session)
    response = go("/login", "out")
    drop_cookie(response, settings_of(request))
    return response


@router.get("/link/{secret}")
def first_form(request: Request, secret: str) -> Response:
    """Show the form of a one-time link, without using the link up."""
    account = links.account_of_link(workspace_of(request), secret)
    return _first(request, secret, account)


@router.post("/link/{secret}")
def first(
    request: Request,
    secret: str,
    name: Annotated[str, Form()] = "",
    password: Annotated[str, Form()] = "",
    again: Annotated[str, Form()] = "",
) -> Response:
    """Set the password, use the link up, and sign in."""
    workspace, settings = workspace_of(request), settings_of(request)
    account = links.account_of_link(workspace, secret)
    try:
        if password != again:
            raise InputError("The two passwords differ.", "", "Type the same one twice.")
        chosen = links.use_link(workspace, secret, password, name)
    except ExpungeError as error:
        status, problem = problem_context(workspace, error)
        return _first(request, secret, account, name, status, problem)
    response = go("/")
    set_cookie(response, settings, sessions.begin(workspace, settings, chosen))
    return response


def _first(
    request: Request,
    secret: str,
    account: str | None,
    name: str = "",
    status: int = 200,
    problem: dict[str, str] | None = None,
) -> Response:
    return page(
        request,
        "first",
        status,
        account=account,
        name=name,
        action=f"/link/{secret}",
        least=passwords.LEAST,
        problem=problem,
    )
