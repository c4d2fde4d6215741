"""The last line of a command, `dirl open`, and completion in the shell."""

import shlex
import string
import webbrowser

import pytest

from dirl.cli import main as program
from dirl.cli.ending import NEXT, describe
from dirl.core.card import finish, new_card
from dirl.core.claim import claim
from dirl.core.errors import StoreError
from dirl.core.outlook import WORTH_A_LOOK, main_file

ASKED = {"doctor", "encoders", "cohort", "view", "open", "check", "init"}  # they make no output


@pytest.fixture
def output(tmp_path):
    """Make a finished output of a stage, with these files."""

    def make(stage, *files):
        out = tmp_path / stage
        card = claim(out, new_card(stage, {}))
        for name in files:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_text("")
        finish(out, card, {})
        return out

    return make


def test_every_command_that_makes_an_output_has_a_last_line():
    assert set(NEXT) == set(program.COMMANDS) - ASKED


@pytest.mark.parametrize("name", NEXT)
def test_the_next_command_exists_and_takes_these_words(name):
    fields = [field for _, field, _, _ in string.Formatter().parse(NEXT[name]) if field]
    own = {parameter.name for parameter in program.load(name).params} | {"cells"}
    assert set(fields) <= own
    line = NEXT[name].strip("`").format_map(dict.fromkeys(fields, "x"))
    first, command, *rest = shlex.split(line)
    assert first == "dirl"
    program.load(command).make_context(command, rest)


def test_the_report_comes_first(output):
    assert main_file(output("audit", "summary.json", "report.html")).name == "report.html"
    assert main_file(output("probe", "summary.json")).name == "summary.json"
    assert main_file(output("export")).name == "card.json" == WORTH_A_LOOK[-1]


def test_an_unfinished_output_has_no_last_line_and_is_not_opened(tmp_path):
    claim(tmp_path / "run", new_card("pretrain", {}))
    assert describe("pretrain", {"out": tmp_path / "run", "store": "store"}) == ""
    with pytest.raises(StoreError, match="unfinished — run the same `dirl pretrain` again"):
        main_file(tmp_path / "run")
    with pytest.raises(StoreError, match="not an output"):
        main_file(tmp_path)


def test_the_line_names_what_was_given(output):
    out = output("probe", "summary.json")
    line = describe("probe", {"out": out, "features": "features"})
    assert line == f"Look at {out / 'summary.json'}. Next: dirl compare {out} OTHER --out compare"


def test_open_prints_the_path_where_there_is_no_browser(output, monkeypatch, capsys):
    asked = []

    def refuse(url):
        asked.append(url)
        return False

    monkeypatch.setattr(webbrowser, "open", refuse)
    out = output("audit", "report.html")
    program.load("open").main([str(out)], standalone_mode=False)
    assert capsys.readouterr().out.strip() == str(out / "report.html")
    assert asked == [(out / "report.html").as_uri()]


def test_words_are_completed(monkeypatch, capsys):
    for words, expected in (("dirl prob", ["probe"]), ("dirl probe --fo", ["--folds"])):
        monkeypatch.setenv("_DIRL_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
        with pytest.raises(SystemExit) as left:
            program.app(prog_name="dirl")
        assert not left.value.code and capsys.readouterr().out.split() == expected
