"""`dirl embed`."""

from pathlib import Path
from typing import Annotated

import typer

from dirl.cli.checks import check_encoders, check_paths, check_store
from dirl.cli.options import (
    Batch,
    Cohort,
    Device,
    Encoder,
    NoBaselines,
    Out,
    Overwrite,
    Quiet,
    Threads,
    takes,
)
from dirl.config import EmbedConfig, TileConfig, Tool


@takes(EmbedConfig)
@takes(
    TileConfig, "mpp", "size_px", "stride_px", "min_tissue", "mpp_override", "allow_upsample", "max_pixels"
)
def embed(
    encoder: Encoder,
    out: Out,
    more: Annotated[
        list[Path] | None, typer.Argument(metavar="SLIDE", hidden=True)
    ] = None,  # of --slides *.svs
    store: Annotated[
        Path | None, typer.Option(metavar="STORE", help="Tile store. Give this, --slides or --cohort.")
    ] = None,
    slides: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH...", help="Slides or folders. Their tiles are not stored."),
    ] = None,
    *,
    cut: TileConfig,
    cohort: Cohort = None,
    config: EmbedConfig,
    no_baselines: NoBaselines = False,
    batch: Batch = 64,
    device: Device = "auto",
    workers: Threads = 4,
    to: Annotated[
        list[Tool] | None,
        typer.Option(
            metavar="TOOL",
            help=f"Write the files of {', '.join(Tool)}. May be repeated.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Embed tiles of a store, or of slides: an HDF5 file per slide, and baselines.

    The options from --mpp to --cohort are for slides, not for a store.

    Example: dirl embed runs/dirl --store store --out features
    """
    from dirl.core.errors import ConfigError, PartlyFailedError
    from dirl.core.progress import counted

    if store is None and slides is None and cohort is None:
        raise ConfigError("none given", where="--store, --slides, --cohort", remedy="name one")
    if store is not None and slides is not None:
        raise ConfigError("both given", where="--store, --slides", remedy="name one")
    if store is not None and (cut.model_fields_set or cohort or more):
        fields = [name for name in TileConfig.model_fields if name in cut.model_fields_set]
        given = ", ".join([*fields, *(["cohort"] if cohort else []), *map(str, more or [])])
        reason = f"a store has its own tiles and table of slides ({given})"
        raise ConfigError(reason, where="--store", remedy="leave that out, or name --slides instead")
    check_encoders(encoder)
    if store is not None:
        check_store(store)
    paths = [*(slides or []), *(more or [])]
    check_paths([*paths, cohort])
    from dirl.core.progress import show
    from dirl.features.embed import embed as run
    from dirl.features.handover import check_tools, hand_over
    from dirl.features.sources import SlideFiles
    from dirl.store.select import describe_selection

    source = store or SlideFiles(paths, cut, cohort=cohort, quiet=quiet)
    check_tools(to or [])  # a missing extra is found before hours of embedding, not after
    try:
        made = run(
            encoder,
            source,
            out,
            config,
            baselines=not no_baselines,
            device=device,
            batch=batch,
            workers=workers,
            overwrite=overwrite,
            quiet=quiet,
        )
    except PartlyFailedError as error:
        if to and error.done:  # the other slides are finished
            hand_over(out, to, quiet=quiet)
        raise
    tiles_made, width = made.values.shape
    show(f": {counted(tiles_made, 'tile')}, {counted(width, 'feature')} each", made.path)
    if selected := made.card.counts.get("selected"):
        show(describe_selection(selected))
    if to:
        for tool, path in hand_over(out, to, quiet=quiet).items():
            show(f": for {tool}", path)
