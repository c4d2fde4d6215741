"""`dirl pretrain`."""

from pathlib import Path
from typing import Annotated

import typer


def pretrain(
    recipe: Annotated[str, typer.Argument(help="A recipe's YAML file, or the name of one that ships.")],
    store: Annotated[Path, typer.Option(help="Tile store to train on.")],
    out: Annotated[Path, typer.Option(help="Directory of the run.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="key=value over the recipe; dense.weight=0 is vanilla.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    devices: Annotated[
        int | None, typer.Option(help="GPUs of this machine, or processes on a CPU.", min=1)
    ] = None,
    nodes: Annotated[int, typer.Option(help="Machines that take part.", min=1)] = 1,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes that read tiles, per device; by default up to 4 on a GPU.", min=0),
    ] = None,
    logger: Annotated[
        str | None, typer.Option(help="wandb or mlflow: follow the run there, too; each is an extra.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Short for --set seed=N.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a run of another recipe.")] = False,
    quiet: Annotated[bool, typer.Option(help="Show no progress.")] = False,
) -> None:
    """Pretrain an encoder; an interrupted run goes on when the same command is given again."""
    from rich import print as show
    from rich.markup import escape

    from dirl.config import load_recipe
    from dirl.core.errors import Interrupted
    from dirl.core.provenance import read_card
    from dirl.core.signals import SIGUSR1
    from dirl.pretrain.ranks import get_rank
    from dirl.pretrain.run import pretrain as run
    from dirl.pretrain.trainer import choose_workers
    from dirl.store.select import describe

    overrides = [*(set_ or []), *([] if seed is None else [f"seed={seed}"])]
    try:
        done = run(
            load_recipe(recipe, overrides),
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
        show(f"[bold]{escape(str(out))}[/]: saved; resume with the same command")
        return
    if get_rank():
        return
    path = escape(str(done.path))
    if selected := read_card(done.path).counts.get("selected"):
        show(describe(selected))
    loss = done.metrics.get("loss")
    show(
        f"[bold]{path}[/]: {done.steps} steps"
        + ("" if loss is None else f", last loss {loss:.3f}")
        + f"; encoder in {escape(str(done.path / 'encoder'))}"
    )
