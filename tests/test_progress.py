"""Messages about the work go to the logger that users of the package know how to handle."""

import logging

import pytest
from rich.table import Table

from dirl.core.progress import bar, counted, printer, say, show


def test_messages_are_logged_under_the_name_of_the_package(caplog, capsys, monkeypatch):
    monkeypatch.setattr(logging.getLogger("dirl"), "handlers", [])  # the program's, of other tests
    with caplog.at_level(logging.INFO, logger="dirl"):
        say("2 slides, [brackets] kept")
        say("not this", quiet=True)
    assert [(each.name, each.levelname, each.getMessage()) for each in caplog.records] == [
        ("dirl", "INFO", "2 slides, [brackets] kept")
    ]
    assert capsys.readouterr() == ("", "")


def test_lines_tables_and_bars_keep_brackets_and_colons(capsys):
    text = "[bold]slides[/] [x] :smile: [/nothing]"
    show(f": {text}", "/data/[a]")
    table = Table("name")
    table.add_row(text)
    printer().print(table)
    with bar(text, 1) as advance:
        advance(1, note="[green]")
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == f"/data/[a]: {text}" and out.count(text) == 2
    assert text in err and "[green]" in err


@pytest.mark.parametrize(
    ("number", "plural", "words"),
    [(0, "", "0 tiles"), (1, "", "1 tile"), (2, "classes", "2 classes"), (1, "classes", "1 class")],
)
def test_one_is_singular(number, plural, words):
    assert counted(number, "class" if plural else "tile", plural) == words
