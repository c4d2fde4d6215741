"""`dirl pretrain`."""

from typing import Annotated, Literal

import typer

from dirl.cli.checks import check_store
from dirl.cli.options import SEED, Device, Out, Overwrite, Quiet, Store, TrainingReaders
from dirl.config import load_recipe


def pretrain(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A recipe's YAML file, or the name of one that ships.")
    ],
    store: Store,
    out: Out,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a key of the recipe. dense.weight=0 trains without the nuclei.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help=f"{SEED} By default the recipe's.")] = None,
    device: Device = "auto",
    devices: Annotated[
        int | None,
        typer.Option(metavar="N", help="Number of GPUs of this machine, or of processes on a CPU.", min=1),
    ] = None,
    nodes: Annotated[int, typer.Option(metavar="N", help="Number of machines.", min=1)] = 1,
    workers: TrainingReaders = None,
    logger: Annotated[
        Literal["wandb", "mlflow"] | None,
        typer.Option(help="Log the run there too. It needs the extra dirl[wandb] or dirl[mlflow]."),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Pretrain an encoder. Run it again to continue an interrupted run.

    Example: dirl pretrain cpu-simclr --store store --out runs/dirl --set steps=2000
    """
    settings = load_recipe(recipe, [*(set_ or []), *([] if seed is None else [f"seed={seed}"])])
    check_store(store)
    from dirl.core.card import read_card
    from dirl.core.errors import Interrupted
    from dirl.core.progress import counted, show
    from dirl.core.signals import SIGUSR1
    from dirl.pretrain.devices import choose_workers, get_rank
    from dirl.pretrain.run import pretrain as run
    from dirl.store.select import describe_selection

    try:
        done = run(
            settings,
            store,
            out,
            device=device,
            devices=devices,
            nodes=nodes,
            workers=choose_workers(workers, device, devices),
            logger=logger,
            overwrite=overwrite,
            quiet=quiet,
        )
    except (Interrupted, KeyboardInterrupt) as stop:
        if get_rank():  # the first process speaks for all
            return
        if not isinstance(stop, Interrupted) or stop.number != SIGUSR1:
            raise
        show(": saved; resume with the same command", out)
        return
    if get_rank():
        return
    if selected := read_card(done.path).counts.get("selected"):
        show(describe_selection(selected))
    loss = done.metrics.get("loss")
    show(
        f": {counted(done.steps, 'step')}"
        + ("" if loss is None else f", last loss {loss:.3f}")
        + f"; encoder in {done.path / 'encoder'}",
        done.path,
    )
