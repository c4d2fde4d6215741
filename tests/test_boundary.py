"""Foreign bytes and names: every exception of a parser becomes ours, and no name leads out of its folder."""

import errno
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dirl.core.boundary import check_name, inside, parsing
from dirl.core.errors import (
    ConfigError,
    DirlError,
    Interrupted,
    MachineError,
    SlideError,
    StoreError,
    UserError,
    as_dirl_error,
)


@pytest.mark.parametrize(
    "raised",
    [
        ValueError("x"),
        RecursionError("deep"),
        EOFError(),
        MemoryError(),
        ZeroDivisionError("y"),
        OSError("z"),
    ],
)
def test_whatever_a_parser_raises_becomes_ours_and_keeps_its_cause(raised):
    with (
        pytest.raises(ConfigError, match="cannot be read") as caught,
        parsing("a.json", remedy="write it again", kind=ConfigError, what="cannot be read"),
    ):
        raise raised
    assert caught.value.__cause__ is raised
    assert caught.value.where == "a.json" and caught.value.remedy == "write it again"


def test_our_own_errors_and_what_stops_a_program_pass_unchanged():
    mine = UserError("no")
    for raised in (mine, KeyboardInterrupt(), SystemExit(3)):
        with pytest.raises(type(raised)) as caught, parsing("f", remedy="r"):
            raise raised
        assert caught.value is raised


@pytest.mark.parametrize(
    ("number", "kind", "code", "words"),
    [
        (errno.ENOENT, SlideError, 2, "no such file or folder"),
        (errno.EACCES, SlideError, 2, "permission denied"),
        (errno.EROFS, SlideError, 2, "read-only"),
        (errno.ENOSPC, MachineError, 1, "no space left"),
        (errno.EDQUOT, MachineError, 1, "quota"),
        (errno.EFBIG, MachineError, 1, "larger than this system allows"),
    ],
)
def test_what_the_system_refuses_is_named_as_what_it_is(number, kind, code, words):
    raised = OSError(number, "System's words", "/some/file")
    assert isinstance(as_dirl_error(raised), kind)
    with pytest.raises(kind, match=words) as caught, parsing("other", remedy="r"):
        raise raised
    assert caught.value.exit_code == code and caught.value.where == "/some/file"


def test_an_interruption_survives_the_way_between_processes():
    for number, code in ((2, 130), (15, 143), (1, 130)):
        back = pickle.loads(pickle.dumps(Interrupted(number)))
        assert isinstance(back, Interrupted) and back.number == number and back.exit_code == code


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        "../x",
        "a/../../x",
        "/etc/passwd",
        "C:\\x",
        "\\\\host\\share",
        "a\\..\\..\\x",
        "a\0b",
        "a" * 300,
    ],
)
def test_names_that_lead_out_are_refused(tmp_path, name):
    with pytest.raises(StoreError, match="leads out"):
        inside(tmp_path, name)


@given(st.text(max_size=40))
def test_a_name_leads_inside_or_is_refused(name):
    root = Path("/store/tiles")
    try:
        path = inside(root, name)
    except StoreError:
        return
    assert path.is_relative_to(root) and ".." not in path.parts
    assert "\0" not in str(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:a\n", "a Git-LFS pointer"),
        (b"\xef\xbb\xbf\n<!DOCTYPE HTML>", "a web page"),
        (b"<!-- saved --><html>", "a web page"),
    ],
)
@pytest.mark.parametrize("raised", [ValueError("x"), OSError("y"), SlideError("z")])
def test_what_downloads_leave_in_place_of_a_file_is_named_by_every_reader(tmp_path, data, message, raised):
    (tmp_path / "f").write_bytes(data)
    with pytest.raises(DirlError, match=f"f: {message}"), parsing(tmp_path / "f", remedy="r"):
        raise raised


@pytest.mark.parametrize("name", ["a\nb", "tab\t", "bell\x07", "del\x7f"])
def test_names_with_control_characters_are_refused(name):
    with pytest.raises(SlideError, match="control character"):
        check_name(Path("/data") / name / "a.svs")


@pytest.mark.parametrize(
    "name", ["a\u202fb", "a\xa0b", "切片", "e\u0301", "%s", "-a", "#1", "a..", "\U0001f52c"]
)
def test_other_names_are_taken(name):
    check_name(Path("/data") / name)
