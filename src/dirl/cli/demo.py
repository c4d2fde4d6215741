"""`dirl demo`."""

from pathlib import Path
from typing import Annotated

import typer

from dirl.cli.checks import check_paths
from dirl.cli.options import MppOverride, Out, Overwrite, Quiet, Seed


def demo(
    slide: Annotated[
        Path | None,
        typer.Option(metavar="SLIDE", help="Your slide. By default a public slide, or offline a drawn one."),
    ] = None,
    out: Out = Path("demo"),
    mpp_override: MppOverride = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Run all steps on one slide: tiles, nuclei, two encoders (without and with nuclei), and an audit.

    Example: dirl demo --slide slide.svs
    """
    check_paths([slide])
    from dirl.demo import demo as run
    from dirl.demo import print_demo

    print_demo(run(slide, out, mpp_override=mpp_override, seed=seed, overwrite=overwrite, quiet=quiet))
