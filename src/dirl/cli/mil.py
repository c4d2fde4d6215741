"""`dirl mil`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Model(StrEnum):
    """Slide models."""

    mean = "mean"
    abmil = "abmil"
    clam = "clam"
    transmil = "transmil"
    dsmil = "dsmil"


def mil(
    features: Annotated[
        Path, typer.Argument(help="Directory that `dirl embed` made, or HDF5 files as CLAM and TRIDENT read.")
    ],
    labels: Annotated[
        Path,
        typer.Option(help="CSV of slide_id and label (or time, event); if wanted fold, group, patient_id."),
    ],
    out: Annotated[Path, typer.Option(help="Directory of the result.")],
    groups: Annotated[
        str,
        typer.Option(
            metavar="auto|patient|COLUMN",
            help="What never stands on both sides. auto: the column group, else patients, else slides.",
        ),
    ] = "auto",
    survival: Annotated[
        bool, typer.Option("--survival", help="Learn time to an event (Cox), not a class.")
    ] = False,
    model: Annotated[
        list[Model] | None, typer.Option(help="Which slide model; again for more. If not given, all.")
    ] = None,
    folds: Annotated[int, typer.Option(help="Folds of the cross-validation.", min=2)] = 5,
    inner_folds: Annotated[
        int, typer.Option(help="Folds within each training part, to choose rate and epochs on.", min=2)
    ] = 3,
    epochs: Annotated[int, typer.Option(help="At most so many.", min=1)] = 20,
    tiles: Annotated[
        int, typer.Option(help="At most so many of a slide's tiles in a training step.", min=1)
    ] = 2048,
    leave_out: Annotated[
        bool,
        typer.Option("--leave-out", help="Leave out slides that cannot be used, which else are refused."),
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "cpu",
    seed: Annotated[int, typer.Option(help="Seed of folds, models and intervals.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a result made otherwise.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Classify slides, or learn survival, from their tiles' features, with attention for `dirl map`."""
    from dirl.config import MilConfig, make
    from dirl.evaluate.mil.run import mil as run
    from dirl.evaluate.mil.show import print_mil

    config = make(
        MilConfig,
        {
            "folds": folds,
            "inner_folds": inner_folds,
            "groups": groups,
            "survival": survival,
            "models": [one.value for one in model] if model else None,
            "epochs": epochs,
            "tiles": tiles,
            "leave_out": leave_out,
            "seed": seed,
        },
        where="dirl mil",
    )
    print_mil(run(features, labels, out, config, device=device, overwrite=overwrite, quiet=quiet))
