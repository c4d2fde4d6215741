"""`dirl robust`."""

from dirl.cli.checks import check_encoders, check_store, label_source
from dirl.cli.options import (
    Batch,
    Device,
    Encoder,
    LabelColumn,
    Labels,
    LabelsCohort,
    NoBaselines,
    Out,
    Overwrite,
    Quiet,
    Readers,
    Store,
    takes,
)
from dirl.config import RobustConfig


@takes(RobustConfig, "tiles", "damage", "folds", "groups", "seed", severity="severities")
def robust(
    encoder: Encoder,
    store: Store,
    out: Out,
    labels: Labels = None,
    cohort: LabelsCohort = None,
    label: LabelColumn = None,
    *,
    config: RobustConfig,
    no_baselines: NoBaselines = False,
    batch: Batch = 64,
    device: Device = "auto",
    workers: Readers = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Measure how corruptions, rotation and other hospitals change an encoder's features and scores.

    Example: dirl robust runs/dirl --store store --labels label --out robust --damage jpeg
    """
    check_store(store)
    check_encoders(encoder)
    source = label_source(labels, cohort, label)
    from dirl.evaluate.robust.run import robust as run
    from dirl.evaluate.robust.show import print_robust

    print_robust(
        run(
            encoder,
            store,
            source,
            out,
            config,
            baselines=not no_baselines,
            device=device,
            batch=batch,
            workers=workers or 0,
            overwrite=overwrite,
            quiet=quiet,
        )
    )
