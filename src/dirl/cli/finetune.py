"""`dirl finetune`."""

from dirl.cli.checks import check_encoders, check_store, label_source
from dirl.cli.options import (
    Device,
    Encoder,
    LabelColumn,
    Labels,
    LabelsCohort,
    Out,
    Overwrite,
    Quiet,
    Readers,
    Store,
    takes,
)
from dirl.config import FinetuneConfig


@takes(FinetuneConfig, "tiles", "folds", "groups", "epochs", "batch", "seed")
def finetune(
    encoder: Encoder,
    store: Store,
    out: Out,
    labels: Labels = None,
    cohort: LabelsCohort = None,
    label: LabelColumn = None,
    *,
    config: FinetuneConfig,
    device: Device = "auto",
    workers: Readers = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Fine-tune an encoder on the folds of `dirl probe`, beside an untrained copy and the frozen encoder.

    Example: dirl finetune runs/dirl --store store --labels labels.csv --out finetuned
    """
    check_store(store)
    check_encoders(encoder)
    source = label_source(labels, cohort, label)
    from dirl.evaluate.finetune.run import finetune as run
    from dirl.evaluate.finetune.show import print_finetune

    print_finetune(
        run(
            encoder,
            store,
            source,
            out,
            config,
            device=device,
            workers=workers or 0,
            overwrite=overwrite,
            quiet=quiet,
        )
    )
