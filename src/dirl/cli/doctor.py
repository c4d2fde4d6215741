"""`dirl doctor`."""

import typer


def doctor() -> None:
    """Show what is installed, which devices work, and how to install what is missing.

    Example: dirl doctor
    """
    from rich.table import Table
    from rich.text import Text

    from dirl.core.progress import printer
    from dirl.doctor import Availability, examine

    table = Table(show_header=False, box=None, pad_edge=False)
    findings = examine()
    colours = {Availability.OK: "green", Availability.MISSING: "red", Availability.ABSENT: "yellow"}
    for finding in findings:
        mark = Text(finding.availability, colours[finding.availability])
        table.add_row(mark, finding.name, finding.detail)
    printer().print(table)
    if any(finding.availability is Availability.MISSING for finding in findings):
        raise typer.Exit(1)
