"""`dirl probe`."""

from pathlib import Path
from typing import Annotated

import typer

from dirl.cli.checks import check_paths, label_source
from dirl.cli.options import LabelColumn, Labels, LabelsCohort, Out, Overwrite, Quiet, takes
from dirl.config import ProbeConfig


@takes(ProbeConfig, "folds", "groups", "seed", evaluator="evaluators")
def probe(
    features: Annotated[
        Path,
        typer.Argument(
            metavar="FEATURES", help="Directory that `dirl embed` made, or HDF5 files of CLAM or TRIDENT."
        ),
    ],
    out: Out,
    labels: Labels = None,
    cohort: LabelsCohort = None,
    label: LabelColumn = None,
    *,
    config: ProbeConfig,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Score features by nearest neighbours and a linear probe, with baselines, on folds that do not leak.

    Example: dirl probe features --labels labels.csv --out probe
    """
    check_paths([features])
    source = label_source(labels, cohort, label)
    from dirl.evaluate.probe.run import probe as run
    from dirl.evaluate.probe.show import print_probe

    print_probe(run(features, source, out, config, overwrite=overwrite, quiet=quiet))
