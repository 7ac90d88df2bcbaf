#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make .venv with everything that requirements.lock names, and the command .venv/bin/expunge in it.

Needs Python 3.11 or later with venv, and a package index that pip can reach. Where all is up to date it does
nothing.
"""

from __future__ import annotations

import compileall
import hashlib
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import children
import pip_settings

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
STAMP = VENV / "expunge-setup"
INPUTS = ("requirements.lock", "requirements.uv.txt", "pyproject.toml", "scripts/setup.py")
HEARTBEAT_SECONDS = 20


def main() -> None:
    """Bring .venv up to date, saying what is done."""
    if sys.version_info < (3, 11):  # noqa: UP036 (whoever runs this may have an older one)
        found = "{}.{}".format(*sys.version_info)
        stop(f"expunge needs Python 3.11 or later; this is {found}.", "Try: make setup PYTHON=python3.11")
    state = fingerprint()
    if STAMP.is_file() and STAMP.read_text() == state and (BIN / "expunge").exists():
        return
    started = time.monotonic()
    print("Setting up .venv (see README.md for download size and time) ...", flush=True)
    make_venv()
    settings = pip_settings.read(PYTHON)
    environ = pip_settings.for_uv(settings, os.environ)
    environ["UV_PYTHON_DOWNLOADS"] = "never"
    environ.pop("VIRTUAL_ENV", None)
    pip = [str(PYTHON), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--require-hashes"]
    uv = [str(BIN / "uv"), "pip"]
    to_venv = ["--python", str(PYTHON)]
    run("the installer", [*pip, "-r", "requirements.uv.txt"], settings, os.environ)
    with tempfile.TemporaryDirectory() as folder:
        exact = Path(folder) / "requirements.txt"
        exact.write_text(pinned("requirements.lock") + pinned("requirements.uv.txt"))
        # Where PYTHONDONTWRITEBYTECODE is set, as in many containers, every process would compile torch anew.
        options = ["--require-hashes", "--compile-bytecode"]
        run("the locked packages", [*uv, "sync", *to_venv, *options, str(exact)], settings, environ)
    itself = ["install", *to_venv, "--no-deps", "--no-build-isolation", "--editable", "."]
    run("expunge itself", [*uv, *itself], settings, environ)
    compileall.compile_dir(ROOT / "src", quiet=1)
    STAMP.write_text(state)
    print(f"Set up in {time.monotonic() - started:.0f} s.", flush=True)


def fingerprint() -> str:
    """Return a digest of all that decides what .venv must hold."""
    digest = hashlib.sha256(f"{ROOT} {sys.version_info[:2]}".encode())
    for name in INPUTS:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def make_venv() -> None:
    """Make .venv, or complete one that was left half made."""
    works = [str(PYTHON), "-c", "import pip, sys; sys.exit(sys.version_info < (3, 11))"]
    if PYTHON.exists() and children.run(works, stderr=children.DEVNULL).returncode == 0:
        return
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        version = "{}.{}".format(*sys.version_info)
        stop(
            "This Python cannot make virtual environments: ensurepip or venv is missing.",
            f"On Debian or Ubuntu: apt install python3-venv (or python{version}-venv), then run this again.",
        )
    done = children.run([sys.executable, "-m", "venv", "--clear", str(VENV)])
    if done.returncode:
        stop("The virtual environment .venv could not be made.", "The message above says why.")


def pinned(name: str) -> str:
    """Return a file of requirements with ``===`` for ``==``.

    A plain ``==`` also admits local builds of the version (2.1.0+cpu): uv takes them, then refuses the hash.
    """
    return re.sub(r"^([A-Za-z0-9._-]+)==", r"\1===", (ROOT / name).read_text(), flags=re.MULTILINE)


def run(what: str, command: list[str], settings: Mapping[str, str], environ: Mapping[str, str]) -> None:
    """Run ``command`` in the project's folder; show its output without the addresses of package indexes."""
    print(f"Installing {what} ...", flush=True)
    process = children.start(command, environ, stdout=children.PIPE, stderr=children.STDOUT, text=True)

    def show() -> None:
        for line in process.stdout or ():
            if not re.match(r" [+-] ", line):  # uv's list of all that it installed
                print("  " + pip_settings.redact(line.rstrip(), settings, environ), flush=True)

    reader = threading.Thread(target=show, daemon=True)
    reader.start()
    started = time.monotonic()
    while reader.is_alive():
        reader.join(HEARTBEAT_SECONDS)
        if reader.is_alive():
            print(f"  ... {time.monotonic() - started:.0f} s", flush=True)
    if process.wait():
        stop(f"Installing {what} failed.", "The message above says why. Run the same command again to go on.")


def stop(what: str, then: str) -> NoReturn:
    """End with a message for people."""
    sys.exit(f"{what}\n{then}")


if __name__ == "__main__":
    main()
