"""`dirl study`."""

from typing import Annotated

import typer

from dirl.cli.checks import check_store
from dirl.cli.options import Device, Out, Overwrite, Quiet, Store, TrainingReaders


def study(
    spec: Annotated[
        str, typer.Argument(metavar="STUDY", help="A study's YAML file, or the name of one that ships.")
    ],
    store: Store,
    out: Out,
    device: Device = "auto",
    workers: TrainingReaders = None,
    parallel: Annotated[
        int | None,
        typer.Option(metavar="N", help="Number of runs at a time. By default one for each GPU.", min=1),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Train, audit and score a matrix of runs. Run it again to continue.

    The store must have cells.

    Example: dirl study controls-cpu --store store --out controls
    """
    from dirl.study.matrix import load_study

    config = load_study(spec)
    check_store(store)
    from dirl.core.errors import PartlyFailedError
    from dirl.core.results import read_as
    from dirl.pretrain.devices import choose_workers
    from dirl.study.run import study as run
    from dirl.study.summary import StudySummary
    from dirl.study.table import print_study

    try:
        result = run(
            config,
            store,
            out,
            device=device,
            workers=choose_workers(workers, device, parallel),
            parallel=parallel,
            overwrite=overwrite,
            quiet=quiet,
        )
    except PartlyFailedError:
        print_study(read_as(out, StudySummary))
        raise
    print_study(result)
