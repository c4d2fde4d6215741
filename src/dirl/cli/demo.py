"""`dirl demo`."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    slide: Annotated[
        Path | None, typer.Option(help="Your slide; without one, a public slide, or offline a drawn one.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Directory for everything that is made.")] = Path("demo"),
    mpp_override: Annotated[
        float | None, typer.Option(help="µm per pixel of a slide whose file names none.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of both runs.")] = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace a demo of another slide.")] = False,
    quiet: Annotated[bool, typer.Option(help="Show no progress.")] = False,
) -> None:
    """Tile a slide, find its nuclei, pretrain vanilla and DiRL, and compare their attention: minutes, CPU."""
    from dirl.demo import demo as run
    from dirl.demo import print_demo

    print_demo(run(slide, out, mpp_override=mpp_override, seed=seed, overwrite=overwrite, quiet=quiet))
