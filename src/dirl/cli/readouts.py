"""`dirl readouts`."""

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
    Store,
    takes,
)
from dirl.config import ReadoutsConfig


@takes(ReadoutsConfig)
def readouts(
    encoder: Encoder,
    store: Store,
    out: Out,
    labels: Labels = None,
    cohort: LabelsCohort = None,
    label: LabelColumn = None,
    *,
    config: ReadoutsConfig,
    device: Device = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Compare class token, mean of the patch tokens, both, and means over regions, at equal width.

    Example: dirl readouts runs/dirl --store store --labels label --cells hematoxylin --out readouts
    """
    check_store(store)
    check_encoders(encoder)
    source = label_source(labels, cohort, label)
    from dirl.evaluate.readouts.run import readouts as run
    from dirl.evaluate.readouts.show import print_readouts

    print_readouts(run(encoder, store, source, out, config, device=device, overwrite=overwrite, quiet=quiet))
