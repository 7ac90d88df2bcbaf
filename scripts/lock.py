# SPDX-License-Identifier: Apache-2.0
"""Make requirements.lock and requirements.uv.txt anew (``--upgrade``: with the newest versions that fit).

The lock holds every package for every platform, pinned by hash, and no address of an index. Pins that still
fit stay.
"""

from __future__ import annotations

import os
import sys

import children
import pip_settings
import setup

OPTIONS = "--quiet --universal --python-version 3.11 --generate-hashes --no-header"
SILENT = "--no-emit-index-url --no-emit-find-links"
PACKAGE = "--overrides requirements.overrides.txt --all-extras pyproject.toml requirements.in"


def main() -> None:
    """Compile both files with the uv of .venv, from the default index alone."""
    environ = pip_settings.for_uv(pip_settings.read(setup.PYTHON), os.environ, everywhere=False)
    for options, target, text in ((PACKAGE, "requirements.lock", None), ("-", "requirements.uv.txt", "uv\n")):
        command = [
            str(setup.BIN / "uv"),
            "pip",
            "compile",
            *OPTIONS.split(),
            *SILENT.split(),
            *options.split(),
            *sys.argv[1:],
        ]
        environ["UV_CUSTOM_COMPILE_COMMAND"] = "make lock"
        command += ["-o", target]
        done = children.run(command, environ, input=text, text=True, stdout=children.DEVNULL)
        done.check_returncode()
        print(f"{target} is up to date")


if __name__ == "__main__":
    main()
