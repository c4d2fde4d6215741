"""`dirl audit`."""

from typing import Annotated

import typer

from dirl.cli.checks import check_encoders, check_store
from dirl.cli.options import Device, Out, Overwrite, Quiet, Store, takes
from dirl.config import AuditConfig


@takes(AuditConfig, "tiles", "cells", "full", "confounder", "seed")
def audit(
    encoders: Annotated[
        list[str],
        typer.Argument(
            metavar="ENCODER",
            help="A name of `dirl encoders`, a run's directory, timm:NAME, timm:DIR or hf:NAME_OR_DIR. "
            "Names take ,weights=FILE|random and ,key=value. All others are compared with the first.",
        ),
    ],
    store: Store,
    out: Out,
    config: AuditConfig,
    device: Device = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Measure where the attention of encoders goes, beside controls, and write a report.

    The store must have cells.

    Example: dirl audit runs/vanilla runs/dirl --store store --out audit
    """
    check_store(store)
    check_encoders(*encoders)
    from dirl.audit.report import print_audit
    from dirl.audit.run import audit as run

    print_audit(run(encoders, store, out, config, device=device, overwrite=overwrite, quiet=quiet))
