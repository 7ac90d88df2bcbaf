# SPDX-License-Identifier: Apache-2.0
"""Settings of the server, given on the command line and never changed by a request."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from expunge.errors import InputError

HOST_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")


@dataclass(frozen=True)
class ServerSettings:
    """Settings of the server.

    Attributes:
        host: Address to bind to.
        port: Port to listen on.
        roots: Folders below which images may be shown.
        behind_tls: Host name of the TLS terminator in front of the server; None if there is none.
        four_eyes: Whether a request must be approved by another person than the one who filed it.
        session_lifetime: Longest lifetime of a session.
        session_idle: Time without a request after which a session ends.
        link_lifetime: Lifetime of the first admin's one-time link.
        invitation_lifetime: Lifetime of the one-time links of further accounts.
        upload_bytes: Largest size of a request body, in bytes.
        workers: Start worker processes for jobs. Off if another server does.
    """

    host: str = "127.0.0.1"
    port: int = 8017
    roots: tuple[Path, ...] = ()
    behind_tls: str | None = None
    four_eyes: bool = False
    session_lifetime: timedelta = timedelta(hours=12)
    session_idle: timedelta = timedelta(hours=1)
    link_lifetime: timedelta = timedelta(minutes=10)
    invitation_lifetime: timedelta = timedelta(hours=24)
    upload_bytes: int = 2_000_000
    workers: bool = True

    def __post_init__(self) -> None:
        if self.behind_tls is not None and not HOST_NAME.fullmatch(self.behind_tls):
            raise InputError(
                f"{self.behind_tls!r} is not a host name.",
                "--behind-tls takes the name under which people reach the desk, without scheme and port.",
                "Give it as in: --behind-tls desk.example.org",
            )
        for root in self.roots:
            if not root.is_dir():
                raise InputError(f"There is no folder {root}.", "It was given with --root.", "Correct it.")

    @property
    def is_loopback(self) -> bool:
        """Whether the server is reachable from this machine only."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def hosts(self) -> frozenset[str]:
        """The accepted host names of the Host header, in lower case, without port."""
        own = {"127.0.0.1", "localhost", "[::1]"} if self.is_loopback else {self.host.lower()}
        return frozenset(own | ({self.behind_tls} if self.behind_tls else set()))

    @property
    def secure_cookies(self) -> bool:
        """Whether browsers may send the cookie over TLS only."""
        return self.behind_tls is not None

    @property
    def address(self) -> str:
        """The URL to open in a browser, without a trailing slash."""
        if self.behind_tls:
            return f"https://{self.behind_tls}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def below_a_root(self, path: Path) -> bool:
        """Return whether a path, with links resolved, lies below one of ``roots``."""
        real = path.resolve()
        return any(real.is_relative_to(root.resolve()) for root in self.roots)
