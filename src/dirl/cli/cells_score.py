"""`dirl cells-score`: how well predicted nuclei agree with annotated ones."""

from pathlib import Path
from typing import Annotated

import typer


def cells_score(
    predicted: Annotated[
        Path,
        typer.Argument(
            metavar="PREDICTED",
            help="STORE for all cells in it, STORE/cells/NAME, or label images: a folder of 16-bit PNG, TIFF "
            "or NPZ, or one file.",
        ),
    ],
    truth: Annotated[
        Path, typer.Argument(metavar="TRUTH", help="Annotated nuclei: STORE/cells/NAME or label images.")
    ],
    mpp: Annotated[
        float | None,
        typer.Option(
            metavar="UM",
            min=0.01,
            help="µm/px to score at; by default the truth's, which label images alone do not tell.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write card.json, summary.json and scores.csv there.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what an earlier run wrote to --out.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Score nuclei against annotated ones: Dice, F1, SQ, PQ, AJI, and the coverage of tokens.

    Matches are one to one at IoU > 0.5. Images are matched by name: files that are called like tiles or like
    slides of the store. Where both sides have classes, PQ of each and mPQ are added.
    """
    from dirl.cells.scoring.run import cells_score as compare
    from dirl.cells.scoring.show import print_scores

    print_scores(compare(predicted, truth, mpp, out=out, overwrite=overwrite, quiet=quiet), out)
