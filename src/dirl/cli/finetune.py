"""`dirl finetune`."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def finetune(
    encoder: Annotated[
        str,
        typer.Argument(
            help="A run's directory, timm:NAME[,weights=FILE|random][,key=value…] or hf:NAME_OR_DIR."
        ),
    ],
    store: Annotated[Path, typer.Option(help="Tile store.")],
    labels: Annotated[
        str,
        typer.Option(help="A column (label, slide_id, patient_id), or a CSV of tile_id|slide_id, label."),
    ],
    out: Annotated[Path, typer.Option(help="Directory of the result.")],
    tiles: Annotated[
        int | None, typer.Option(help="At most so many, those of `dirl embed --tiles`; else all.", min=1)
    ] = None,
    folds: Annotated[int, typer.Option(help="Folds of the cross-validation.", min=2)] = 5,
    groups: Annotated[
        Literal["auto", "patient", "stain", "given"], typer.Option(help="What never stands on both sides.")
    ] = "auto",
    epochs: Annotated[int, typer.Option(help="At most so many.", min=1)] = 20,
    batch: Annotated[int, typer.Option(help="Tiles in a training step.", min=1)] = 32,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    workers: Annotated[int, typer.Option(help="Processes that read tiles.", min=0)] = 0,
    seed: Annotated[int, typer.Option(help="Seed of tiles, folds, training and intervals.")] = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace a result made otherwise.")] = False,
    quiet: Annotated[bool, typer.Option(help="Show no progress.")] = False,
) -> None:
    """Train an encoder end to end on the folds of a probe, beside its untrained twin and itself frozen."""
    from dirl.config import FinetuneConfig
    from dirl.evaluate.finetune.run import finetune as run
    from dirl.evaluate.finetune.show import print_finetune

    config = FinetuneConfig(tiles=tiles, folds=folds, groups=groups, epochs=epochs, batch=batch, seed=seed)
    print_finetune(
        run(
            encoder,
            store,
            labels,
            out,
            config,
            device=device,
            workers=workers,
            overwrite=overwrite,
            quiet=quiet,
        )
    )
