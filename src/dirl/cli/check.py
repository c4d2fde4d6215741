"""`dirl check`."""

from pathlib import Path
from typing import Annotated

import typer


def check(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Output of any dirl command.")],
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress and no summary.")] = False,
) -> None:
    """Compare an output with its checksums, and say what mends it.

    One line for each part that is damaged, missing, unfinished, incomplete, unchecked or unknown. Exit code
    1 if there is one, apart from unknown files.
    """
    from dirl.check import check as run
    from dirl.core.words import counted

    result = run(directory, quiet=quiet)
    for finding in result.findings:
        typer.echo(str(finding))
    if not result.whole:
        raise typer.Exit(1)
    if not quiet:
        typer.echo(
            f"{directory}: whole: {counted(result.outputs, 'output')}, {counted(result.files, 'file')}, "
            f"{result.members} tiles and maps of nuclei"
        )
