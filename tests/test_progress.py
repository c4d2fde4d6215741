"""Messages about the work go to the logger that users of the package know how to handle."""

import logging

from dirl.core.progress import say


def test_messages_are_logged_under_the_name_of_the_package(caplog, capsys):
    with caplog.at_level(logging.INFO, logger="dirl"):
        say("2 slides, [brackets] kept")
        say("not this", quiet=True)
    assert [(each.name, each.levelname, each.getMessage()) for each in caplog.records] == [
        ("dirl", "INFO", "2 slides, [brackets] kept")
    ]
    assert capsys.readouterr() == ("", "")
