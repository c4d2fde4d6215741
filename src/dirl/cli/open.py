"""`dirl open`."""

from pathlib import Path
from typing import Annotated

import typer


def open(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Output of any dirl command.")],
) -> None:
    """Open the report of an output in a browser, and print its path.

    An output without a report opens its picture or its numbers. Without a browser, only the path is printed.

    Example: dirl open audit
    """
    import webbrowser

    from dirl.core.outlook import SHOWN_BY_BROWSERS, main_file
    from dirl.core.progress import show

    found = main_file(out).absolute()
    show("", found)
    if found.suffix in SHOWN_BY_BROWSERS or found.is_dir():
        webbrowser.open(found.as_uri())  # returns False where there is none
