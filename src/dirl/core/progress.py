"""Progress bars on standard error, messages to the logger ``dirl``, and words of messages."""

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
from rich.text import Text

COLUMNS = (
    TextColumn("{task.description:<22}", markup=False),
    BarColumn(),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
    TimeRemainingColumn(),
    TextColumn("{task.fields[note]}", markup=False),
)

WIDE = 240


def printer() -> Console:
    """Return a console of standard output, which prints ``[brackets]`` and ``:colons:`` as they are.

    In a file or a pipe it is wide, so that no column is cut.
    """
    width = None if Console().is_terminal else WIDE
    return Console(width=width, markup=False, emoji=False, highlight=False)


def show(text: str, path: object = "") -> None:
    """Print a line on standard output, with the path before it in bold."""
    printer().print(Text.assemble((str(path), "bold"), text), soft_wrap=True)


@contextmanager
def bar(description: str, total: int | None, *, quiet: bool = False) -> Iterator[Callable[..., None]]:
    """Show a bar while the block runs, and yield ``advance(steps=1, note=None)``, which moves the bar on.

    `total` is the number of steps, or None if it is unknown.
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


def counted(number: int, noun: str, plural: str = "") -> str:
    """Put a number before a noun: ``1 slide``, ``2 slides``; `plural` if it is not the noun with an s."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
