"""`dirl robust`."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def robust(
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
    out: Annotated[Path, typer.Option(help="Directory of the measurement.")],
    tiles: Annotated[int, typer.Option(help="How many labelled tiles to draw.", min=1)] = 500,
    damage: Annotated[
        list[str] | None,
        typer.Option(help="A corruption, or rotation; again for another. Everything if not given."),
    ] = None,
    severity: Annotated[
        list[int] | None, typer.Option(help="1 to 5; again for another. All if not given.")
    ] = None,
    folds: Annotated[int, typer.Option(help="Folds of the cross-validation.", min=2)] = 5,
    groups: Annotated[
        Literal["auto", "patient", "stain", "given"], typer.Option(help="What never stands on both sides.")
    ] = "auto",
    no_baselines: Annotated[
        bool,
        typer.Option(
            "--no-baselines", help="Leave out the untrained encoder and the colour histogram: half the time."
        ),
    ] = False,
    batch: Annotated[int, typer.Option(help="Tiles in one forward pass.", min=1)] = 64,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    workers: Annotated[int, typer.Option(help="Processes that read and damage tiles.", min=0)] = 0,
    seed: Annotated[int, typer.Option(help="Seed of tiles, damage, folds and intervals.")] = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace a measurement made otherwise.")] = False,
    quiet: Annotated[bool, typer.Option(help="Show no progress.")] = False,
) -> None:
    """Measure what corruptions, turning and other hospitals do to an encoder's features and scores."""
    from dirl.config import RobustConfig, make
    from dirl.evaluate.robust.run import robust as run
    from dirl.evaluate.robust.show import print_robust

    asked = {"damage": damage, "severities": severity}
    values = {"tiles": tiles, "folds": folds, "groups": groups, "seed": seed}
    config = make(RobustConfig, values | {key: value for key, value in asked.items() if value})
    print_robust(
        run(
            encoder,
            store,
            labels,
            out,
            config,
            baselines=not no_baselines,
            device=device,
            batch=batch,
            workers=workers,
            overwrite=overwrite,
            quiet=quiet,
        )
    )
