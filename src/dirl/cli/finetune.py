"""`dirl finetune`."""

from dirl.cli.checks import check_encoders, check_labels, check_store
from dirl.cli.options import Device, Encoder, Labels, Out, Overwrite, Quiet, Readers, Store, takes
from dirl.config import FinetuneConfig


@takes(FinetuneConfig, "tiles", "folds", "groups", "epochs", "batch", "seed")
def finetune(
    encoder: Encoder,
    store: Store,
    labels: Labels,
    out: Out,
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
    check_labels(labels)
    from dirl.evaluate.finetune.run import finetune as run
    from dirl.evaluate.finetune.show import print_finetune

    print_finetune(
        run(
            encoder,
            store,
            labels,
            out,
            config,
            device=device,
            workers=workers or 0,
            overwrite=overwrite,
            quiet=quiet,
        )
    )
