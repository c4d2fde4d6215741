"""`dirl compare`."""

from pathlib import Path
from typing import Annotated

import typer

from dirl.cli.options import Out, Overwrite, Seed


def compare(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULT",
            help="Directories of `dirl probe`, `dirl finetune` or `dirl mil`. The others are compared with "
            "the first.",
        ),
    ],
    out: Out,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Put results of one split into one table, with paired differences: CSV, LaTeX, HTML, figures.

    Example: dirl compare probes/vanilla probes/dirl --out comparison
    """
    from dirl.core.card import read_card

    for result in results:
        read_card(result)
    from dirl.evaluate.compare.run import compare as run
    from dirl.evaluate.compare.show import print_comparison

    print_comparison(run(results, out, seed=seed, overwrite=overwrite))
