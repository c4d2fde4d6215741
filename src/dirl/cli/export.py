"""`dirl export`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from dirl.cli.options import Out, Overwrite


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Directory of a finished run.")],
    to: Annotated[
        Literal["timm", "hf", "onnx"], typer.Option(help="Format. onnx needs the extra dirl[onnx].")
    ],
    out: Out,
    licence: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Licence of the weights, such as cc-by-4.0, for the model card.",
        ),
    ] = "unknown",
    overwrite: Overwrite = False,
) -> None:
    """Write a run's encoder for timm, transformers or ONNX, checked against the run, with a model card.

    Example: dirl export runs/dirl --to hf --out encoder
    """
    from dirl.core.card import read_card

    read_card(run, "pretrain")
    from dirl.core.progress import show
    from dirl.export.run import export as write

    done = write(run, out, to=to, licence=licence, overwrite=overwrite)
    checked = ", ".join(f"{name} {value:.1e}" for name, value in done.differences.items())
    show(f": the same tokens (largest difference: {checked}); see README.md", done.path)
    if licence == "unknown":
        show("The model card says that the licence is unknown; pass --licence to state it.")
