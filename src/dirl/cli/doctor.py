"""`dirl doctor`."""

import typer


def doctor() -> None:
    """Show what is installed, which devices work, and how to install what is missing.

    Example: dirl doctor
    """
    from rich.table import Table

    from dirl.core.progress import printer
    from dirl.doctor import examine

    table = Table(show_header=False, box=None, pad_edge=False)
    findings = examine()
    marks = {True: "[green]ok[/]", False: "[red]missing[/]", None: "[yellow]absent[/]"}
    for finding in findings:
        table.add_row(marks[finding.fine], finding.name, finding.detail)
    printer().print(table)
    if any(finding.fine is False for finding in findings):
        raise typer.Exit(1)
