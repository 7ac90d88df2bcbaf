# SPDX-License-Identifier: Apache-2.0
"""What the tests of the desk share: an application over models of paper, and somebody of each role."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

from argon2 import PasswordHasher

from expunge.erasure.workspace import Workspace
from expunge.web.app import create_app
from expunge.web.auth import accounts, passwords, sessions, tokens
from expunge.web.auth.roles import PERMISSIONS, Role, may
from expunge.web.settings import ServerSettings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the client's successor
    from fastapi.testclient import TestClient

HOST = "127.0.0.1:8017"
BASE = f"http://{HOST}"
PASSWORD = "correct horse battery staple"
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
ROLES = tuple(Role)


@dataclass
class Desk:
    """A desk over a workspace, whose server does not start workers.

    Attributes:
        workspace: What it serves.
        settings: What the server was started with.
    """

    workspace: Workspace
    settings: ServerSettings = field(default_factory=lambda: ServerSettings(workers=False))

    def __post_init__(self) -> None:
        self.app = create_app(self.workspace, self.settings)

    def client(self, **headers: str) -> TestClient:
        """A browser, or a program, that nobody has signed in."""
        return TestClient(self.app, base_url=BASE, headers=headers, raise_server_exceptions=False)

    def account(self, name: str, role: Role) -> accounts.Account:
        """An account with the one password; made where it is missing."""
        for account in accounts.listing(self.workspace):
            if account.name == name:
                return account
        return accounts.create(self.workspace, name, role, PASSWORD)

    def signed_in(self, role: Role, name: str | None = None, csrf: bool = True) -> TestClient:
        """A browser in which somebody of a role is signed in, whose pages send the proof (or do not)."""
        account = self.account(name or f"a-{role}", role)
        signed = sessions.begin(self.workspace, self.settings, account)
        client = self.client(**({"X-CSRF-Token": signed.csrf} if csrf else {}))
        client.cookies.set("expunge_session", signed.secret)
        return client

    def bearer(self, role: Role, *scopes: str, name: str | None = None) -> TestClient:
        """A program with a token; without scopes, with all of its account's."""
        account = self.account(name or f"a-{role}", role)
        wanted = scopes or tuple(p for p in PERMISSIONS if may(role, p))
        _, secret = tokens.make(self.workspace, account.id, role, "test", wanted, 1)
        return self.client(Authorization=f"Bearer {secret}")


def cheap_passwords(monkeypatch: Any) -> None:
    """Hash passwords in no time; a test is no attacker."""
    monkeypatch.setattr(passwords, "HASHER", CHEAP)
    passwords._dummy_hash.cache_clear()
