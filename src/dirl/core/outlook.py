"""What to look at in an output of any command, first of all."""

from pathlib import Path

from dirl.core.card import read_card
from dirl.core.errors import StoreError

# The first of these that an output has. Pages come before pictures, and pictures before numbers.
WORTH_A_LOOK = (
    "report.html",
    "audit/report.html",
    "table.html",
    "map.png",
    "pictures",
    "summary.json",
    "metrics.csv",
    "card.json",
)
SHOWN_BY_BROWSERS = frozenset({".html", ".png", ".json"})


def main_file(out: Path) -> Path:
    """Return the file of a finished output to look at first: its report, else a picture, else its numbers.

    Raises
    ------
    StoreError
        If no command of dirl made it, or it is not finished.
    """
    card = read_card(out)
    if card.finished is None:
        raise StoreError("unfinished", where=out, remedy=f"run the same `dirl {card.stage}` again")
    return next(out / name for name in WORTH_A_LOOK if (out / name).exists())
