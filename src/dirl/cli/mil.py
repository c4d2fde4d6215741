"""`dirl mil`."""

from pathlib import Path
from typing import Annotated

import typer

from dirl.cli.checks import check_paths, label_source
from dirl.cli.options import Device, LabelColumn, LabelsCohort, Out, Overwrite, Quiet, takes
from dirl.config import MilConfig


@takes(
    MilConfig,
    "groups",
    "survival",
    "folds",
    "inner_folds",
    "epochs",
    "tiles",
    "leave_out",
    "seed",
    model="models",
)
def mil(
    features: Annotated[
        Path,
        typer.Argument(
            metavar="FEATURES", help="Directory that `dirl embed` made, or HDF5 files of CLAM or TRIDENT."
        ),
    ],
    out: Out,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="CSV",
            help="CSV file of slide_id and label (or time, event), and any of fold, group, patient_id. "
            "CSV,label=COLUMN takes another column.",
        ),
    ] = None,
    cohort: LabelsCohort = None,
    label: LabelColumn = None,
    *,
    config: MilConfig,
    device: Device = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Classify slides, or learn survival, from the features of their tiles, with attention for `dirl map`.

    Example: dirl mil features --labels slides.csv --out mil --model abmil
    """
    check_paths([features])
    source = label_source(labels, cohort, label)
    from dirl.evaluate.mil.run import mil as run
    from dirl.evaluate.mil.show import print_mil

    print_mil(run(features, source, out, config, device=device, overwrite=overwrite, quiet=quiet))
