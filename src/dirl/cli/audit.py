"""`dirl audit`."""

from pathlib import Path
from typing import Annotated

import typer


def audit(
    encoders: Annotated[
        list[str],
        typer.Argument(
            help="A run's directory, timm:NAME[,weights=FILE|random][,key=value…], timm:DIR or "
            "hf:NAME_OR_DIR; others against the first."
        ),
    ],
    store: Annotated[Path, typer.Option(help="Tile store with cells.")],
    out: Annotated[Path, typer.Option(help="Directory of the audit.")],
    tiles: Annotated[int, typer.Option(help="How many tiles to draw from the store.", min=1)] = 256,
    cells: Annotated[str, typer.Option(help="Whose cells.")] = "hematoxylin",
    full: Annotated[
        bool, typer.Option("--full", help="Also attention distance, sinks and rollout: much slower.")
    ] = False,
    confounder: Annotated[
        bool, typer.Option("--confounder", help="Plant a mark, and ask whether attention shows it.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of the tiles, views, controls and intervals.")] = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace an audit made otherwise.")] = False,
    quiet: Annotated[bool, typer.Option(help="Show no progress.")] = False,
) -> None:
    """Measure where the attention of encoders goes, beside controls, and write a report."""
    from dirl.audit.run import audit as run
    from dirl.audit.show import print_audit
    from dirl.config import AuditConfig

    config = AuditConfig(tiles=tiles, cells=cells, seed=seed, full=full, confounder=confounder)
    print_audit(run(encoders, store, out, config, device=device, overwrite=overwrite, quiet=quiet))
