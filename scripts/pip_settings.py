# SPDX-License-Identifier: Apache-2.0
"""Hand this machine's own pip settings on to uv, which does not read pip's configuration. Prints nothing."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path

import children

# What pip calls it, what uv calls it, and what separates several values there (with pip, white space).
_NAMES = (
    ("index-url", "UV_DEFAULT_INDEX", None),
    ("extra-index-url", "UV_INDEX", " "),
    ("find-links", "UV_FIND_LINKS", ","),
    ("trusted-host", "UV_INSECURE_HOST", " "),
    ("cert", "SSL_CERT_FILE", None),
    ("client-cert", "SSL_CLIENT_CERT", None),
    ("timeout", "UV_HTTP_TIMEOUT", None),
    ("default-timeout", "UV_HTTP_TIMEOUT", None),
    ("proxy", "ALL_PROXY", None),
)
_ADDRESSES = ("index-url", "extra-index-url", "find-links", "proxy")
_VARIABLES = (
    "UV_DEFAULT_INDEX",
    "UV_INDEX_URL",
    "UV_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "ALL_PROXY",
)


def read(python: Path) -> dict[str, str]:
    """Return the settings of the pip of ``python``, by name, from its files and from PIP_* variables."""
    command = [str(python), "-m", "pip", "config", "list"]
    done = children.run(command, capture_output=True, text=True)
    done.check_returncode()
    return parse(done.stdout)


def parse(listing: str) -> dict[str, str]:
    """Return the settings in the output of ``pip config list``: a later section wins over an earlier one."""
    found: dict[str, dict[int, str]] = {}
    rank = {"global": 0, "install": 1, ":env:": 2}
    for line in listing.splitlines():
        match = re.match(r"(global|install|:env:)\.([\w-]+)=(.*)$", line)
        if match:
            section, name, value = match.groups()
            found.setdefault(name, {})[rank[section]] = str(ast.literal_eval(value))
    return {name: values[max(values)] for name, values in found.items()}


def for_uv(
    settings: Mapping[str, str], environ: Mapping[str, str], everywhere: bool = True
) -> dict[str, str]:
    """Return ``environ`` with pip's settings under uv's names; what the user set for uv stays as it is.

    With ``everywhere`` false, extra indexes and folders of files are left out: a lock is made from the index.
    """
    result = dict(environ)
    for name, variable, separator in _NAMES:
        extra = name in ("extra-index-url", "find-links")
        if name in settings and variable not in environ and (everywhere or not extra):
            values = settings[name].split()
            result[variable] = settings[name].strip() if separator is None else separator.join(values)
    if settings.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        result.setdefault("UV_NO_INDEX", "1")
    if "UV_INDEX" in result:
        # Any index may serve any package. That is safe here: every file must match a hash in the lock.
        result.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    return result


def redact(text: str, settings: Mapping[str, str], environ: Mapping[str, str]) -> str:
    """Return ``text`` without the addresses among the settings, for messages that are shown."""
    values = {value for name in _ADDRESSES for value in settings.get(name, "").split()}
    values |= {value for name in _VARIABLES for value in re.split(r"[\s,]+", environ.get(name, "")) if value}
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value.rstrip("/"), "(package index)")
    return re.sub(r"\bhttps?://[^\s`'\"]+", "(package index)", text)
