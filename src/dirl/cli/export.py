"""`dirl export`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    """Whose layout."""

    timm = "timm"
    hf = "hf"
    onnx = "onnx"


def export(
    run: Annotated[Path, typer.Argument(help="A finished run's directory.")],
    to: Annotated[Format, typer.Option(help="Whose layout; onnx needs the extra dirl[onnx].")],
    out: Annotated[Path, typer.Option(help="Directory to make.")],
    licence: Annotated[
        str, typer.Option(help="Of the weights, for the model card: an identifier such as cc-by-4.0.")
    ] = "unknown",
    overwrite: Annotated[bool, typer.Option(help="Replace an export of another run or format.")] = False,
) -> None:
    """Write a run's encoder for timm, transformers or ONNX, checked against the run, with a model card."""
    from rich import print as show
    from rich.markup import escape

    from dirl.export.run import export as write

    done = write(run, out, to=to.value, licence=licence, overwrite=overwrite)
    checked = ", ".join(f"{name} {value:.1e}" for name, value in done.differences.items())
    show(f"[bold]{escape(str(done.path))}[/]: the same tokens (largest difference: {checked}); see README.md")
    if licence == "unknown":
        show("The model card says that the licence is unknown; pass --licence to state it.")
