"""`dirl doctor`."""

import typer


def doctor() -> None:
    """Show what is installed, which devices work, and how to install what is missing.

    Example: dirl doctor
    """
    from rich.table import Table
    from rich.text import Text

    from dirl.core.progress import printer
    from dirl.doctor import examine

    table = Table(show_header=False, box=None, pad_edge=False)
    findings = examine()
    marks = {True: ("ok", "green"), False: ("missing", "red"), None: ("absent", "yellow")}
    for finding in findings:
        table.add_row(Text(*marks[finding.fine]), finding.name, finding.detail)
    printer().print(table)
    if any(finding.fine is False for finding in findings):
        raise typer.Exit(1)
