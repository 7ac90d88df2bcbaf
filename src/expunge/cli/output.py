# SPDX-License-Identifier: Apache-2.0
"""Options that all commands share, and output of results and errors."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, NoReturn

import click

from expunge.errors import ExpungeError

if TYPE_CHECKING:
    from expunge.workspace import Workspace

DEBUG = "EXPUNGE_DEBUG"
BEGAN = time.monotonic()  # start of the command, before slow imports


@dataclass(frozen=True)
class Context:
    """The common options of a command, and its output.

    Attributes:
        workspace_path: ``--workspace``, or None.
        device: ``--device``, or None.
        threads: ``--threads``, or None.
        json: Print one JSON object on standard output, and everything else on standard error.
    """

    workspace_path: str | None = None
    device: str | None = None
    threads: int | None = None
    json: bool = False

    def workspace(self) -> Workspace:
        """Open and return the command's workspace."""
        from expunge.workspace import Workspace

        return Workspace.open(self.workspace_path)

    def emit(self, result: dict[str, Any], render: Callable[[], Any] | None = None) -> None:
        """Print the result: as JSON with ``--json``, otherwise the text or table that ``render`` returns."""
        if self.json:
            print_json(result)
        elif render is not None:
            rendered = render()
            if isinstance(rendered, str):
                click.echo(rendered)
            elif rendered is not None:
                show(rendered)

    def say(self, text: str) -> None:
        """Print a message on standard error."""
        click.echo(text, err=True)


def common_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that every command takes; the command gets a ``Context`` as its first argument."""

    @click.option(
        "--workspace", metavar="DIR", help="The folder that holds .expunge. [env: EXPUNGE_WORKSPACE]"
    )
    @click.option("--device", metavar="DEVICE", help="Where to compute: cpu, 0, …")
    @click.option("--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads to use.")
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
    @wraps(command)
    def with_context(
        *args: Any,
        workspace: str | None,
        device: str | None,
        threads: int | None,
        as_json: bool,
        **kwargs: Any,
    ) -> Any:
        return command(Context(workspace, device, threads, as_json), *args, **kwargs)

    return with_context


def show(renderable: Any) -> None:
    """Print a rich renderable, such as a table, on standard output."""
    from rich.console import Console

    Console().print(renderable)


def print_json(result: dict[str, Any]) -> None:
    """Print one JSON object on standard output."""
    click.echo(json.dumps(result, default=str))


def run(command: Callable[[], Any], *, as_json: bool) -> NoReturn:
    """Run a command, print its error if it fails, and exit the process with its exit code.

    Args:
        command: The command; may return an exit code.
        as_json: Print errors as a JSON object.
    """
    try:
        code = command()
        sys.stdout.flush()
    except ExpungeError as error:
        code = report(error.as_json(), error.exit_code, as_json)
    except click.UsageError as error:
        reason = error.ctx.get_usage().replace("\n", " ") if error.ctx else ""
        path = error.ctx.command_path if error.ctx else "expunge"
        what = {"error": error.format_message(), "reason": reason, "next": f"See: {path} --help"}
        code = report(what, 2, as_json)
    except click.ClickException as error:
        code = report({"error": error.format_message(), "reason": "", "next": ""}, 2, as_json)
    except (KeyboardInterrupt, click.Abort):
        code = report({"error": "Interrupted.", "reason": "", "next": ""}, 130, as_json)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has closed the pipe
        code = 1
    except RecursionError:
        what = {"error": "A file is nested too deep to be read.", "reason": "", "next": "Use a flatter one."}
        code = report(what, 2, as_json)
    except Exception as error:
        if os.environ.get(DEBUG):
            traceback.print_exc()
        what = {
            "error": f"Unexpected {type(error).__name__}: {error}",
            "reason": "This is a fault in expunge, or in something that it builds on.",
            "next": f"Run it again with {DEBUG}=1 to see where, and report it.",
        }
        code = report(what, 2, as_json)
    sys.exit(code if isinstance(code, int) else 0)


def report(error: dict[str, str], code: int, as_json: bool) -> int:
    """Print an error as up to three lines or as JSON; return its exit code."""
    if as_json:
        print_json(error)
    else:
        click.echo("\n".join(line for line in error.values() if line), err=True)
    return code
