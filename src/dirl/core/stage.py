"""The stage of a command: claim the output, return it if it is finished, else compute, write and finish."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dirl.core.card import Card, finish, read_card
from dirl.core.checked import SUMMARY
from dirl.core.claim import claim
from dirl.core.errors import InUseError, MachineError, UserError
from dirl.core.files import remove, write_json
from dirl.core.layout import UNFINISHED
from dirl.core.owner import own, owning
from dirl.core.results import Result, S, read_as


@dataclass(frozen=True)
class Work:
    """A stage's output directory while the stage computes.

    Attributes
    ----------
    out
        The directory, owned by this process.
    card
        Its card: the earlier one if interrupted work is continued.
    """

    out: Path
    card: Card

    @property
    def parts(self) -> Path:
        """Folder for finished parts. An interrupted run leaves it to the next, a finished one removes it."""
        return self.out / UNFINISHED


@owning
def carry_out(
    card: Card,
    out: Path,
    kind: type[S],
    compute: Callable[[Work], S],
    *,
    overwrite: bool = False,
    again: bool = False,
) -> Result[S]:
    """Carry out a stage, or read its result if it is finished with equal settings and inputs.

    Parameters
    ----------
    card
        What the stage is about to do; see `dirl.core.card.new_card`.
    kind
        Type of the summary.
    compute
        Writes the stage's files, and returns the summary. ``summary.json`` and the card are written after it.
    overwrite
        Replace an output with other settings or inputs.
    again
        Compute a finished output again.

    Raises
    ------
    StoreError
        If `out` holds something else, or its summary is damaged.
    InUseError
        If another process writes to `out`.
    """
    card = claim(out, card, overwrite=overwrite)
    if card.finished and not again:
        _remove_parts(out)
        return read_as(out, kind)
    own(out)  # `claim` only reads a finished one
    work = Work(out, card)
    summary = compute(work)
    write_json(out / SUMMARY, summary.to_json())
    finish(out, card, summary.counts)
    remove(work.parts)
    return read_as(out, kind)


def _remove_parts(out: Path) -> None:
    """Remove the parts that a run left if it was killed between its last two steps."""
    if not (out / UNFINISHED).exists():
        return
    with suppress(InUseError, MachineError, UserError, OSError):  # parts do no harm
        own(out)
        if read_card(out).finished:
            remove(out / UNFINISHED)
