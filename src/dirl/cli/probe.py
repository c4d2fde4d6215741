"""`dirl probe`."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def probe(
    features: Annotated[
        Path,
        typer.Argument(
            help="Directory that `dirl embed` made, or of CLAM's or TRIDENT's HDF5 files, one a slide."
        ),
    ],
    labels: Annotated[
        str,
        typer.Option(help="A column (label, slide_id, patient_id), or a CSV of tile_id|slide_id, label."),
    ],
    out: Annotated[Path, typer.Option(help="Directory of the probe.")],
    folds: Annotated[int, typer.Option(help="Folds of the cross-validation.", min=2)] = 5,
    groups: Annotated[
        Literal["auto", "patient", "stain", "given"], typer.Option(help="What never stands on both sides.")
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of the folds and intervals.")] = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace a probe made otherwise.")] = False,
    quiet: Annotated[bool, typer.Option(help="Show no progress.")] = False,
) -> None:
    """Score features by nearest neighbours and a linear probe, with baselines, on folds that do not leak."""
    from dirl.config import ProbeConfig
    from dirl.evaluate.probe.run import probe as run
    from dirl.evaluate.probe.show import print_probe

    config = ProbeConfig(folds=folds, groups=groups, seed=seed)
    print_probe(run(features, labels, out, config, overwrite=overwrite, quiet=quiet))
