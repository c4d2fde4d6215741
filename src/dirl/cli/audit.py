"""`dirl audit`."""

from pathlib import Path
from typing import Annotated

import typer

from dirl.cli.checks import check_encoders, check_paths, check_store
from dirl.cli.options import Cohort, Device, Out, Overwrite, Quiet, takes
from dirl.config import AuditConfig, TileConfig
from dirl.core.errors import ConfigError


@takes(AuditConfig, "tiles", "cells", "full", "confounder", "seed")
@takes(TileConfig, "mpp", "size_px", "mpp_override")
def audit(
    encoders: Annotated[
        list[str],
        typer.Argument(
            metavar="ENCODER",
            help="A name of `dirl encoders`, a run's directory, timm:NAME, timm:DIR or hf:NAME_OR_DIR. "
            "Names take ,weights=FILE|random and ,key=value. All others are compared with the first.",
        ),
    ],
    out: Out,
    store: Annotated[
        Path | None,
        typer.Option(metavar="STORE", help="Tile store with cells. Give this, --slides or --cohort."),
    ] = None,
    slides: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH...",
            help="Slides or folders, from which the tiles are drawn. Then --cells is a segmenter, or "
            "geojson:DIR and other files, as in `dirl cells`.",
        ),
    ] = None,
    cohort: Cohort = None,
    *,
    cut: TileConfig,
    config: AuditConfig,
    device: Device = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Measure where the attention of encoders goes, beside controls, and write a report.

    The options --mpp, --size and --mpp-override are for slides, not for a store.

    Example: dirl audit uni --slides slides/*.svs --out audit
    """
    named = [spec for spec in encoders if slides is None or not Path(spec).is_file()]
    paths = [*(slides or []), *(Path(spec) for spec in encoders if spec not in named)]  # of --slides *.svs
    if store is None and not paths and cohort is None:
        raise ConfigError("none given", where="--store, --slides, --cohort", remedy="name one")
    if store is not None and (paths or cohort or cut.model_fields_set):
        reason = "a store has its own slides, tiles and resolution"
        raise ConfigError(reason, where="--store", remedy="name a store, or slides and their options")
    if not named:
        raise ConfigError("no encoder named", where="ENCODER", remedy="name it before --slides")
    check_encoders(*named)
    check_paths([*paths, cohort])
    if store is not None:
        check_store(store)
    from dirl.audit.report import print_audit

    if store is not None:
        from dirl.audit.run import audit as run

        print_audit(run(named, store, out, config, device=device, overwrite=overwrite, quiet=quiet))
        return
    from dirl.audit.slides import audit_slides

    print_audit(
        audit_slides(
            named,
            paths,
            out,
            config,
            cut=cut,
            segmenter=config.cells,
            cohort=cohort,
            device=device,
            overwrite=overwrite,
            quiet=quiet,
        )
    )
