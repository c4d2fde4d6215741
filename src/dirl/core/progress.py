"""Progress bars on standard error, and messages to the logger ``dirl``."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

COLUMNS = (
    TextColumn("{task.description:<22}"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
    TimeRemainingColumn(),
    TextColumn("{task.fields[note]}"),
)

WIDE = 240


def printer() -> Console:
    """Return a console of standard output. In a file or a pipe it is wide, so that no column is cut."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDE)


@contextmanager
def bar(description: str, total: int | None, *, quiet: bool = False) -> Iterator[Callable[..., None]]:
    """Show a bar while the block runs.

    Parameters
    ----------
    description
        The work, in a few words.
    total
        Number of steps; None if unknown.
    quiet
        Show nothing.

    Yields
    ------
    callable
        ``advance(steps=1, note="")`` moves the bar on.
    """
    if quiet:  # older versions of rich print an empty line for a disabled bar
        yield lambda steps=1, note=None: None
        return
    with Progress(*COLUMNS, console=Console(stderr=True)) as progress:
        task = progress.add_task(description, total=total, note="")

        def advance(steps: float = 1, note: str | None = None) -> None:
            progress.advance(task, steps)
            if note is not None:
                progress.update(task, note=note)

        yield advance


def say(text: str, *, quiet: bool = False) -> None:
    """Log a line about the inputs or the work, at the level INFO. The program prints it on standard error."""
    if not quiet:
        logging.getLogger("dirl").info(text)
