# SPDX-License-Identifier: Apache-2.0
"""What the server is started with: stated on the command line, never changed by a request."""

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
    """Where the server listens and what it may reach.

    Attributes:
        host: The address that it binds to.
        port: The port.
        roots: Folders named by whoever started it: pictures are shown from below these alone.
        behind_tls: The host name under which a TLS terminator in front of it is reached; None: there is none.
        four_eyes: Whether somebody else than who filed a request must approve it (of the workspace).
        session_lifetime: After that a browser signs in again, whatever it did.
        session_idle: After that without a request, too.
        link_lifetime: How long the first admin's one-time link is good.
        invitation_lifetime: How long the one-time link of a further account is good.
        upload_bytes: The largest body of a request.
        workers: Start processes for long work; off where another server does that.
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
                f"{self.behind_tls!r} is no host name.",
                "--behind-tls takes the name under which people reach the desk, without scheme and port.",
                "Give it as in: --behind-tls desk.example.org",
            )
        for root in self.roots:
            if not root.is_dir():
                raise InputError(f"There is no folder {root}.", "It was given with --root.", "Correct it.")

    @property
    def is_loopback(self) -> bool:
        """Whether nobody on another machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def hosts(self) -> frozenset[str]:
        """The values of the Host header that are answered, in small letters, without their port."""
        own = {"127.0.0.1", "localhost", "[::1]"} if self.is_loopback else {self.host.lower()}
        return frozenset(own | ({self.behind_tls} if self.behind_tls else set()))

    @property
    def secure_cookies(self) -> bool:
        """Whether browsers must send the cookie over TLS alone."""
        return self.behind_tls is not None

    @property
    def address(self) -> str:
        """The address to open in a browser, without a slash at its end."""
        if self.behind_tls:
            return f"https://{self.behind_tls}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def below_a_root(self, path: Path) -> bool:
        """Whether a path, with its links resolved, lies below a folder that was named."""
        real = path.resolve()
        return any(real.is_relative_to(root.resolve()) for root in self.roots)
