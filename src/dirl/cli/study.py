"""`dirl study`."""

from pathlib import Path
from typing import Annotated

import typer


def study(
    study: Annotated[str, typer.Argument(help="A study's YAML file, or the name of one that ships.")],
    store: Annotated[Path, typer.Option(help="Tile store with cells.")],
    out: Annotated[Path, typer.Option(help="Directory of the study.")],
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    workers: Annotated[
        int | None,
        typer.Option(help="Processes that read tiles, per run; by default up to 4 on a GPU.", min=0),
    ] = None,
    parallel: Annotated[
        int | None,
        typer.Option(help="Runs at a time, over the GPUs in turn; one for each GPU by default.", min=1),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace another study, with all its runs.")] = False,
    quiet: Annotated[bool, typer.Option(help="Show no progress.")] = False,
) -> None:
    """Train, audit and score a matrix of runs; the same command goes on where it stopped."""
    from dirl.core.errors import PartlyFailedError
    from dirl.pretrain.trainer import choose_workers
    from dirl.study.run import load_result
    from dirl.study.run import study as run
    from dirl.study.show import print_study

    try:
        result = run(
            study,
            store,
            out,
            device=device,
            workers=choose_workers(workers, device, parallel),
            parallel=parallel,
            overwrite=overwrite,
            quiet=quiet,
        )
    except PartlyFailedError:
        print_study(load_result(out))
        raise
    print_study(result)
