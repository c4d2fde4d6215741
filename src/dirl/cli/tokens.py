"""`dirl tokens`."""

from dirl.cli.checks import check_encoders, check_store
from dirl.cli.options import Device, Encoder, Out, Overwrite, Quiet, Store, takes
from dirl.config import TokensConfig


@takes(TokensConfig)
def tokens(
    encoder: Encoder,
    store: Store,
    out: Out,
    config: TokensConfig,
    device: Device = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Score what patch tokens know of nuclei and their classes, or of your masks, with colour baselines.

    The store must have cells, or name your masks with --masks.

    Example: dirl tokens runs/dirl --store store --cells pathologist --out tokens
    """
    check_store(store)
    check_encoders(encoder)
    from dirl.evaluate.tokens.run import tokens as run
    from dirl.evaluate.tokens.show import print_tokens

    print_tokens(run(encoder, store, out, config, device=device, overwrite=overwrite, quiet=quiet))
