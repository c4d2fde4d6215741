"""`dirl cohort check`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from dirl.cli.checks import check_paths
from dirl.cli.options import Quiet, Workers


def cohort(
    action: Annotated[Literal["check"], typer.Argument(metavar="check", help="What to do: check.")],
    table: Annotated[
        Path,
        typer.Argument(metavar="CSV", help="A row for each slide: its path, and any facts."),
    ],
    workers: Workers = 1,
    quiet: Quiet = False,
) -> None:
    """Check a cohort's table: open every slide, and print what is understood of it.

    The exit code is 2 if a slide cannot be used.

    Example: dirl cohort check cohort.csv
    """
    check_paths([table])
    from rich.table import Table

    from dirl.core.errors import raise_failures
    from dirl.core.progress import counted, printer, show
    from dirl.slides.cohort_check import cohort_check

    found = cohort_check(table, workers=workers, quiet=quiet)
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("slide", "µm/px", "from", "size", "levels", "tissue", "patient", "centre", "missing"):
        shown.add_column(title, overflow="fold")
    for one in found.slides:
        shown.add_row(
            one.slide_id,
            f"{one.mpp:.4g}",
            one.mpp_from,
            "×".join(map(str, one.size_px)),
            str(one.levels),
            f"{one.tissue:.0%}",
            one.patient_id or "–",
            one.centre or "–",
            ", ".join(one.missing),
        )
    console = printer()
    console.print(shown)
    patients = len({one.patient_id for one in found.slides if one.patient_id})
    centres = len({one.centre for one in found.slides if one.centre})
    show(
        f"{counted(len(found.slides), 'slide')} can be used; {counted(patients, 'patient')} and "
        f"{counted(centres, 'centre')} are known"
    )
    raise_failures(found.failures, len(found.slides))
