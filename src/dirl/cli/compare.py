"""`dirl compare`."""

from pathlib import Path
from typing import Annotated

import typer


def compare(
    results: Annotated[
        list[Path],
        typer.Argument(
            help="Directories of `dirl probe`, `dirl finetune` or `dirl mil`; others against the first."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Directory of the comparison.")],
    seed: Annotated[int, typer.Option(help="Seed of the intervals.")] = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace another comparison.")] = False,
) -> None:
    """Put results of one split into one table, with paired differences: CSV, LaTeX, HTML, figures."""
    from dirl.evaluate.compare.run import compare as run
    from dirl.evaluate.compare.show import print_comparison

    print_comparison(run(results, out, seed=seed, overwrite=overwrite))
