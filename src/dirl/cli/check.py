"""`dirl check`."""

from pathlib import Path
from typing import Annotated

import typer

from dirl.cli.options import Quiet


def check(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Output of any dirl command.")],
    quiet: Quiet = False,
) -> None:
    """Compare an output with its checksums, and say how to repair it.

    The command prints one line for each part that is damaged, missing, unfinished, incomplete, unchecked or
    unknown. The exit code is 1 if there is such a line. Unknown files alone are no problem.

    Example: dirl check runs/dirl
    """
    from dirl.check import check as run
    from dirl.core.progress import counted

    result = run(directory, quiet=quiet)
    for finding in result.findings:
        typer.echo(str(finding))
    if not result.whole:
        raise typer.Exit(1)
    typer.echo(
        f"{directory}: whole: {counted(result.outputs, 'output')}, {counted(result.files, 'file')}, "
        f"{result.members} tiles and maps of nuclei"
    )
