"""`dirl cells-score`."""

from pathlib import Path
from typing import Annotated

import typer

from dirl.cli.checks import check_paths
from dirl.cli.options import Overwrite, Quiet


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
            metavar="X",
            min=0.01,
            help="Resolution to score at, in µm/px. By default that of TRUTH. If both are label images, "
            "state it to score coverage, too.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Directory to write to.")] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Score nuclei against annotated ones: Dice, F1, SQ, PQ, AJI, and the coverage of tokens.

    Matches are one to one at IoU > 0.5. Images are matched by name: files have the names of tiles or of
    slides of the store. If both sides have classes, PQ of each class and mPQ are added.

    Example: dirl cells-score store annotated/ --mpp 0.5
    """
    check_paths([predicted, truth])
    from dirl.cells.scoring.run import score_images
    from dirl.cells.scoring.show import print_scores

    print_scores(score_images(predicted, truth, mpp, out=out, overwrite=overwrite, quiet=quiet), out)
