"""`dirl init`."""

from pathlib import Path
from typing import Annotated

import typer

from dirl.cli.checks import check_paths
from dirl.cli.options import MppOverride, Quiet, Workers

NEXT = "`dirl tile --cohort {cohort} --out store --mpp {mpp:g} --size {size}`"


def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of slides.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the three files.")] = Path(),
    mpp_override: MppOverride = None,
    workers: Workers = 1,
    quiet: Quiet = False,
) -> None:
    """Look at a folder of slides, and write a cohort's table, a recipe and a study to begin with.

    Files that exist are not replaced.

    Example: dirl init slides/
    """
    check_paths([folder])
    from dirl.core.errors import raise_failures
    from dirl.core.progress import counted, say, show
    from dirl.study.draft import TILE_PX, draft

    made = draft(folder, out, mpp_override=mpp_override, workers=workers, quiet=quiet)
    patients = len({one.patient_id for one in made.slides if one.patient_id})
    show(
        f"{counted(len(made.slides), 'slide')}, {counted(patients, 'patient')} known, "
        f"about {counted(made.tiles, 'tile')} at {made.mpp:g} µm/px; "
        f"written: {made.cohort}, {made.recipe}, {made.study}"
    )
    line = NEXT.strip("`").format(cohort=made.cohort, mpp=made.mpp, size=TILE_PX)
    say(f"Look at {made.cohort}. Next: {line}", quiet=quiet)
    raise_failures(made.failures, len(made.slides))
