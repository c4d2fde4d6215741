"""The program: help, one-line errors, exit codes."""

import errno
import re
import sys
import warnings
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path

import pytest

from dirl.cli import main as program
from dirl.core.errors import ConfigError, DirlWarning, Interrupted, TrainingError
from dirl.core.signals import Stop
from dirl.doctor import Availability, Component


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["dirl", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            program.main()
        captured = capsys.readouterr()
        return left.value.code or 0, captured.out, captured.err

    return call


ROOT = Path(__file__).parents[2]


def test_help_names_every_command(run):
    code, out, _ = run("--help")
    assert code == 0 and all(f" {name} " in out for name in program.COMMANDS)


@pytest.mark.parametrize("command", program.COMMANDS)
def test_every_command_explains_itself_and_names_its_page(run, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run(command, "--help")
    lines = out.strip().splitlines()
    assert code == 0 and "Usage" in lines[0] and len(lines) <= 55
    assert not re.search(r"<(str|path|list)|TEXT", out)
    label, page = lines[-1].split(": ")
    assert label.strip() == "How-to" and f"dirl {command}" in (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("command", "values"),
    [
        *[(name, "auto|patient|stain|given") for name in ("probe", "robust", "finetune")],
        ("mil", "--groups COLUMN"),
        ("map", "tissue|patches|softmax|rank"),
    ],
)
def test_help_shows_the_values_of_a_choice(run, monkeypatch, command, values):
    monkeypatch.setenv("COLUMNS", "80")
    assert values in run(command, "--help")[1]


def test_version(run):
    assert run("--version")[1].startswith("dirl 0.")


def test_bad_usage_is_the_users(run):
    assert run("tile")[0] == 2
    assert run("nonsense")[0] == 2
    assert run("audit", "--nonsense")[0] == 2


def one_line(err):
    return err.startswith("error: ") and "Traceback" not in err and err.strip().count("\n") == 0


def test_errors_are_one_line_that_names_file_reason_and_remedy(run, tmp_path):
    (tmp_path / "broken.svs").write_bytes(b"no slide")
    code, _, err = run("tile", tmp_path / "broken.svs", "--out", tmp_path / "store", "--quiet")
    assert code == 2 and one_line(err) and "broken.svs" in err
    code, _, err = run("tile", tmp_path / "nowhere", "--out", tmp_path / "store", "--quiet")
    assert code == 2 and one_line(err) and "nowhere" in err
    code, _, err = run("cells", tmp_path)
    assert code == 2 and one_line(err) and "not a tile store (it has no card.json)" in err
    code, _, err = run(
        "pretrain", "demo", "--store", tmp_path, "--out", tmp_path / "r", "--set", "dens.weight=0"
    )
    assert code == 2 and one_line(err) and "unknown key dens" in err and "dense" in err
    code, _, err = run("demo", "--slide", tmp_path / "nowhere.svs", "--out", tmp_path / "demo")
    assert code == 2 and one_line(err) and not (tmp_path / "demo").exists()


def test_debug_shows_the_traceback_wherever_it_stands(run, tmp_path):
    code, _, err = run("--debug", "cells", tmp_path)
    assert code == 2 and "Traceback" in err
    assert "Traceback" in run("cells", tmp_path, "--debug")[2]


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (KeyboardInterrupt(), 130, "interrupted — run the same command again to continue"),
        (Stop(1), 130, "interrupted — run the same command again to continue"),
        (Stop(15), 143, "interrupted — run the same command again to continue"),
        (Interrupted(15), 143, "interrupted — run the same command again to continue"),
        (OSError(errno.ENOSPC, "No space left on device", "out.tar"), 1, "no space left on the disk"),
        (PermissionError(errno.EACCES, "Permission denied", "locked"), 2, "locked: permission denied"),
        (TrainingError("collapsed", where="run", remedy="lower lr"), 1, "run: collapsed — lower lr"),
        (RuntimeError("two\nlines"), 1, "unexpected RuntimeError: two lines"),
    ],
)
def test_what_fails_leaves_with_its_code(capsys, error, code, text):
    def command():
        raise error

    with pytest.raises(SystemExit) as left:
        program.guarded(command)()
    err = capsys.readouterr().err
    assert left.value.code == code and text in err and one_line(err)


def test_doctor_finds_this_environment_sound(monkeypatch, capsys):
    from dirl.doctor import examine

    findings = {finding.name: finding for finding in examine()}
    assert findings["torch"].availability == findings["OpenSlide library"].availability == Availability.OK
    assert "simclr" in findings["objectives"].detail
    assert not any(finding.availability is Availability.MISSING for finding in findings.values())


def test_doctor_prints_the_whole_name_of_an_extra(monkeypatch, run):
    finding = Component("extra cells", "pip install 'dirl[cells]'", Availability.ABSENT)
    monkeypatch.setattr("dirl.doctor.examine", lambda: [finding])
    assert "pip install 'dirl[cells]'" in run("doctor")[1]


def test_doctor_lists_the_extras_and_only_plugins_that_import(monkeypatch):
    from dirl.core.plugins import resolve
    from dirl.doctor import examine

    load = EntryPoint.load

    def without_shapely(point):
        if point.name == "geojson":
            raise ModuleNotFoundError("No module named 'shapely'", name="shapely")
        return load(point)

    monkeypatch.setattr(EntryPoint, "load", without_shapely)
    findings = examine()
    listed = {finding.name for finding in findings}
    assert {"extra anndata", "extra geojson", "extra hf", "extra wandb"} <= listed
    assert "extra dev" not in listed
    (fine,), absent = (
        [one.detail for one in findings if one.name == "segmenters" and one.availability is availability]
        for availability in (Availability.OK, Availability.ABSENT)
    )
    assert "hematoxylin" in fine.split(", ") and "geojson" not in fine.split(", ")
    assert "geojson: cannot import it (No module named 'shapely'): pip install 'dirl[geojson]'" in absent
    if find_spec("cellpose") is None:  # known, but not usable
        assert "cellpose" not in fine
        assert "cellpose: needs the package cellpose: pip install 'dirl[cellpose]'" in absent
    with pytest.raises(ConfigError, match=r"No module named 'shapely'.*pip install 'dirl\[geojson\]'"):
        resolve("dirl.segmenters", "geojson")


def test_a_table_that_goes_into_a_file_is_not_cut(capsys, monkeypatch):
    from rich.table import Table

    from dirl.core.progress import printer

    monkeypatch.setenv("COLUMNS", "80")
    table = Table(*(f"column{i}" for i in range(12)), box=None)
    table.add_row(*(f"0.{i:02}–0.99" for i in range(12)))
    printer().print(table)
    out = capsys.readouterr().out
    assert all(f"column{i}" in out and f"0.{i:02}–0.99" in out for i in range(12))


def test_only_our_warnings_are_printed(monkeypatch, capsys):
    monkeypatch.setattr(warnings, "showwarning", program._show_warning)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("a library's own affair", UserWarning, stacklevel=1)
        warnings.warn("check the mpp", DirlWarning, stacklevel=1)
    assert capsys.readouterr().err == "warning: check the mpp\n"
