# SPDX-License-Identifier: Apache-2.0
"""The command ``export``."""

from __future__ import annotations

from pathlib import Path

import click

from expunge.cli.output import Context, common_options


@click.command()
@click.argument("ref", metavar="MODEL[@V]")
@click.option("--format", "form", required=True, metavar="FORMAT", help="onnx, openvino or torchscript.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="The file to write. [in the workspace]"
)
@common_options
def export(context: Context, ref: str, form: str, out: Path | None) -> None:
    """Export a model to another format and check it against its weights on real images.

    The export is recorded: `expunge status FILE` recognises it, and it is superseded together with its model.
    A superseded version is only exported if MODEL@V names it.
    """
    from expunge.models.exports import export as write

    result = write(context.workspace(), ref, form, out, context.say)
    context.emit(
        result,
        lambda: (
            f"{result['path']}\n{result['model']} as {form}, {result['bytes'] / 1e6:,.1f} MB; "
            f"largest difference from the weights on {result['images']} images: {result['difference']:.1g} "
            f"(allowed: {result['tolerance']:g})"
        ),
    )
