"""`dirl check`: every changed, lost or foreign byte of an output is found, and named with what mends it."""

import shutil
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from dirl import check
from dirl.cli.main import app
from dirl.core.card import Stage, finish, mark_unfinished, new_card, note_change, read_card
from dirl.core.checked import checked, read_summary
from dirl.core.claim import claim
from dirl.core.errors import StoreError
from dirl.core.files import read_json, replacing, write_json


@pytest.fixture(scope="module")
def store(small_store, tmp_path_factory) -> Path:
    return shutil.copytree(small_store, tmp_path_factory.mktemp("check") / "store")


def made(folder: Path, stage: Stage = "probe") -> Path:
    card = claim(folder, new_card(stage, {}))
    write_json(folder / "summary.json", {"score": 0.5})
    with replacing(folder / "figures" / "a.png") as temporary:
        temporary.write_bytes(b"picture")
    finish(folder, card, {})
    return folder


def test_whole_outputs_are_counted(store, tmp_path):
    found = check(store, quiet=True)
    assert found.whole and found.findings == ()
    assert found.outputs == 2  # the store and the cells in it
    tiles = read_card(store).counts["tiles"]
    assert found.members == 3 * tiles
    assert CliRunner().invoke(app, ["check", str(made(tmp_path / "p"))]).exit_code == 0


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(which=st.randoms(use_true_random=False))
def test_a_flipped_bit_of_any_file_is_found(store, which):
    files = sorted(path for path in store.rglob("*") if path.is_file() and ".lock" not in str(path))
    path = which.choice([path for path in files if path.name != "card.json"])
    whole = path.read_bytes()
    changed = bytearray(whole)
    at = which.randrange(len(whole))
    if path.suffix == ".tar":  # what lies between the members holds nothing
        row = which.choice(members(path))
        at = row[0] + which.randrange(row[1])
    changed[at] ^= 1 << which.randrange(8)
    path.write_bytes(changed)
    try:
        (finding,) = [one for one in check(store, quiet=True).findings if one.path == path]
        assert finding.what == "damaged" and "run the same `dirl " in finding.remedy
    finally:
        path.write_bytes(whole)


def members(tar: Path) -> list[tuple[int, int]]:
    with tarfile.open(tar) as held:
        return [(member.offset_data, member.size) for member in held if member.size]


def test_missing_unknown_and_unfinished_parts_are_named(tmp_path):
    folder = made(tmp_path / "probe")
    (folder / "notes.txt").write_text("mine")
    assert check(folder, quiet=True).whole
    (foreign,) = check(folder, quiet=True).findings
    sentence = "no command of dirl wrote this file; dirl ignores it"
    assert str(foreign) == f"unknown: {folder / 'notes.txt'} — {sentence}"
    (folder / "figures" / "a.png").unlink()
    outcome = CliRunner().invoke(app, ["check", str(folder)])
    assert outcome.exit_code == 1
    lost = f"missing: {folder / 'figures' / 'a.png'} — run the same `dirl probe` again with --overwrite"
    assert lost in outcome.output.splitlines()
    claim(tmp_path / "begun", new_card("audit", {}))
    outcome = CliRunner().invoke(app, ["check", str(tmp_path / "begun")])
    assert outcome.exit_code == 1 and "unfinished" in outcome.output
    assert CliRunner().invoke(app, ["check", str(tmp_path)]).exit_code == 2


def test_an_unfinished_store_is_one_line(store, tmp_path):
    again = shutil.copytree(store, tmp_path / "store")
    folder = again / "cells" / "hematoxylin"
    mark_unfinished(folder, read_card(folder))
    (folder / "index.parquet").unlink()
    (finding,) = check(again, quiet=True).findings
    assert (finding.what, finding.path) == ("unfinished", folder)


def test_slides_that_failed_are_named(tmp_path):
    folder = made(tmp_path / "cells", "cells-export")
    finish(folder, read_card(folder), {"slides": 12, "failed": 1, "failures": {"a": "no tissue found"}})
    outcome = CliRunner().invoke(app, ["check", str(folder)])
    line = (
        f"incomplete: {folder} (1 of 13 slides failed: a: no tissue found) — mend these slides or leave them "
        "out, and run `dirl cells-export` again"
    )
    assert (outcome.exit_code, outcome.output.splitlines()[-1]) == (1, line)
    finish(folder, read_card(folder), {"slides": 13, "failed": 0})
    outcome = CliRunner().invoke(app, ["check", str(folder)])
    assert outcome.exit_code == 0 and "whole: 1 output, 2 files" in outcome.output


def test_an_output_of_an_older_version_is_not_whole(tmp_path):
    folder = made(tmp_path / "probe")
    card = read_json(folder / "card.json")
    del card["digest_of_card"]
    write_json(folder / "card.json", card | {"files": {}})
    (finding,) = check(folder, quiet=True).findings
    assert str(finding) == (
        f"unchecked: {folder} (an older version of dirl made it, without checksums) — "
        "run the same `dirl probe` again with --overwrite"
    )
    assert not check(folder, quiet=True).whole


def test_a_damaged_card_is_named(tmp_path):
    folder = made(tmp_path / "probe")
    (folder / "card.json").write_bytes(b"{")
    (finding,) = check(folder, quiet=True).findings
    assert (finding.what, finding.path) == ("damaged", folder / "card.json")


def test_parts_of_a_study_and_of_a_demo_are_mended_by_it(tmp_path):
    root, part = made(tmp_path / "study", "study"), tmp_path / "study" / "probes" / "byol" / "a" / "seed-0"
    row = root / "results" / "byol" / "a" / "seed-0.json"
    mended = [
        (root, part, f"remove {part} and {row}, and run the same `dirl study` again"),
        (made(tmp_path / "demo", "demo"), tmp_path / "demo" / "a", f"remove {tmp_path / 'demo' / 'a'}"),
    ]
    for whole, folder, advice in mended:
        made(folder, "probe")
        (folder / "summary.json").write_text("{}")
        (finding,) = check(whole, quiet=True).findings
        assert finding.path == folder / "summary.json" and finding.remedy.startswith(advice)
    (root / "figures" / "a.png").write_bytes(b"")
    remedies = {one.path.name: one.remedy for one in check(root, quiet=True).findings}
    assert remedies["a.png"] == "remove figures/a.png, and run the same `dirl study` again"


def test_a_reader_refuses_what_was_changed(tmp_path):
    folder = made(tmp_path / "probe")
    assert read_summary(folder) == {"score": 0.5}
    (folder / "summary.json").write_text('{"score": 0.6}')
    with pytest.raises(StoreError, match=r"summary.json: damaged: its SHA-256 .*`dirl probe` again"):
        read_summary(folder)
    note_change(folder, "summary.json")
    assert read_summary(folder) == {"score": 0.6}
    (folder / "new.json").write_text("1")
    with pytest.raises(StoreError, match="has no digest of it"):
        checked(folder, "new.json")
