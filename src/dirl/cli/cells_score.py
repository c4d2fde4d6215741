"""`dirl cells-score`: how well predicted nuclei agree with annotated ones."""

from pathlib import Path
from typing import Annotated

import typer


def cells_score(
    predicted: Annotated[
        Path, typer.Argument(metavar="PREDICTED", help="Label image (16-bit PNG, TIFF, NPZ), or a folder.")
    ],
    truth: Annotated[
        Path, typer.Argument(metavar="TRUTH", help="The same of the annotated nuclei, with the same names.")
    ],
    mpp: Annotated[
        float | None,
        typer.Option(metavar="UM", help="µm/px of the labels; adds the correlation of coverage."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write card.json and summary.json there.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what an earlier run wrote to --out.")
    ] = False,
) -> None:
    """Score instance labels: Dice, F1, SQ, PQ and AJI per image, and their mean.

    Matches are one to one at IoU > 0.5; the correlation of coverage is over tokens of 8 µm.
    """
    from rich.console import Console
    from rich.table import Table

    from dirl.cells.scores import SCORES, summary, write_scores
    from dirl.cells.scores import cells_score as score_files

    table = score_files(predicted, truth, mpp)
    content = summary(table)
    columns = [*SCORES] if mpp is None else [*SCORES, "coverage_correlation"]
    at = "" if mpp is None else f" at {mpp:g} µm/px"
    headers = [name.upper() if name in SCORES else "coverage r" for name in columns]
    shown = Table("image", *headers, title=f"{len(table.names)} images{at}")
    for name, row in content["per_image"].items():
        shown.add_row(name, *(_number(row[column]) for column in columns))
    shown.add_row("mean", *(_number(content["mean"][column]) for column in columns), style="bold")
    Console().print(shown)
    if out is not None:
        write_scores(out, table, predicted, truth, overwrite=overwrite)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
