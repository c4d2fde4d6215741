"""Parts of a cohort: each slide is in one part, and all parts together make what one job makes."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dirl.cells.run import cells, cells_part
from dirl.config import TileConfig
from dirl.core.card import read_card
from dirl.core.cohort_part import ARRAY_TASK, WHOLE, CohortPart, parse_part
from dirl.core.errors import ConfigError, PartlyFailedError, SlideError, StoreError
from dirl.core.layout import COHORT_PARTS
from dirl.core.owner import content
from dirl.store.build import tile, tile_part
from dirl.store.dataset import TileStore
from dirl.synthetic import write

CONFIG = TileConfig(size_px=128)
# Ids that are dealt to parts 0, 1 and 2 of 3.
NAMES = ("case0", "case1", "case2", "case3", "case4", "case5")


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    for number, name in enumerate(NAMES):
        write(folder / f"{name}.tiff", number, (384, 384))
    return sorted(folder.glob("*.tiff"))


@pytest.fixture(scope="module")
def alone(slides, tmp_path_factory):
    store = tmp_path_factory.mktemp("alone") / "store"
    tile(slides, store, CONFIG, quiet=True)
    cells(store, quiet=True)
    return store


def parts(count: int) -> list[CohortPart]:
    return [CohortPart(index, count) for index in range(count)]


def bytes_of(folder: Path) -> dict[str, bytes]:
    files = {str(path.relative_to(folder)): path for path in content(folder)}
    return {name: path.read_bytes() for name, path in files.items() if path.name != "card.json"}


@given(st.text(), st.integers(1, 50))
def test_a_slide_is_in_one_part_whatever_the_other_slides(name, count):
    assert sum(part.has(name) for part in parts(count)) == 1
    assert WHOLE.has(name)


def test_the_slides_of_these_tests_are_dealt_to_every_part():
    assert all(any(part.has(name) for name in NAMES) for part in parts(3))


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_a_part_is_read_as_it_is_printed(index, more):
    part = CohortPart(index, index + more)
    assert parse_part(str(part)) == part


def test_in_a_slurm_array_the_number_of_parts_is_enough(monkeypatch):
    assert parse_part(None) == WHOLE
    monkeypatch.setenv(ARRAY_TASK, "2")
    assert parse_part("4") == CohortPart(2, 4)
    assert parse_part("1/4") == CohortPart(1, 4), "what is stated counts"
    assert parse_part(None) == WHOLE, "an array may have another purpose"


@pytest.mark.parametrize("text", ["4", "", "/", "1/", "/4", "a/4", "1/4/5", "-1/4", "1.0/4", "4/4", "0/0"])
def test_another_form_is_refused_with_an_example(text, monkeypatch):
    monkeypatch.delenv(ARRAY_TASK, raising=False)
    with pytest.raises(ConfigError, match="part"):
        parse_part(text)


def test_the_last_part_writes_the_index_and_the_store_is_that_of_one_job(slides, alone, tmp_path):
    out = tmp_path / "store"
    ended = [tile_part(slides, out, CONFIG, part, quiet=True) for part in (parts(3)[1], parts(3)[0])]
    assert ended == [None, None]
    with pytest.raises(StoreError, match="missing"):
        TileStore.open(out)
    assert tile_part(slides, out, CONFIG, parts(3)[2], quiet=True) is not None
    assert [cells_part(out, None, part, quiet=True) is not None for part in parts(3)] == [False, False, True]
    assert bytes_of(out) == bytes_of(alone)
    assert read_card(out).files == read_card(alone).files


def test_parts_run_at_once_in_one_folder(slides, alone, tmp_path):
    out = tmp_path / "store"
    common = [sys.executable, "-m", "dirl"]
    commands = (
        ["tile", *map(str, slides), "--out", str(out), "--size", "128", "--quiet"],
        ["cells", str(out), "--quiet"],
    )
    for command in commands:
        jobs = [
            subprocess.Popen([*common, *command, "--part", str(part)], stderr=subprocess.PIPE)
            for part in parts(3)
        ]
        errors = [job.communicate(timeout=240)[1].decode() for job in jobs]
        assert [job.returncode for job in jobs] == [0, 0, 0], errors
    assert bytes_of(out) == bytes_of(alone)


def test_a_failed_slide_of_any_part_is_in_the_card_and_its_part_tries_again(slides, alone, tmp_path):
    folder = tmp_path / "slides"
    folder.mkdir()
    for slide in slides:
        (folder / slide.name).symlink_to(slide)
    bad = folder / "case3.tiff"
    bad.unlink()
    bad.write_bytes(b"II*\x00 cut short")
    out, first = tmp_path / "store", next(part for part in parts(3) if part.has("case3"))
    others = [part for part in parts(3) if part != first]
    with pytest.raises((SlideError, PartlyFailedError), match=r"case3\.tiff|1 failed") as failed:
        tile_part([folder], out, CONFIG, first, quiet=True)
    assert failed.value.exit_code == 2
    for part in others:
        made = tile_part([folder], out, CONFIG, part, quiet=True)
    assert made is not None
    assert len(made.slides) == len(NAMES) - 1
    assert list(read_card(out).counts["failures"]) == ["case3"]
    bad.unlink()
    bad.symlink_to(slides[3])
    assert tile_part([folder], out, CONFIG, first, quiet=True) is not None
    assert read_card(out).counts["failed"] == 0
    assert (out / "index.parquet").read_bytes() == (alone / "index.parquet").read_bytes()


def test_records_of_parts_of_other_slides_do_not_count(slides, tmp_path):
    out = tmp_path / "store"
    for part in parts(2):
        tile_part(slides[:4], out, CONFIG, part, quiet=True)
    made = [tile_part(slides, out, CONFIG, part, quiet=True) for part in parts(2)]
    assert made[0] is None
    assert made[1] is not None
    assert len(made[1].slides) == len(NAMES)
    whole = tile(slides, out, CONFIG, quiet=True)
    assert len(whole.slides) == len(NAMES)
    assert not (out / COHORT_PARTS).exists()


def test_a_part_never_replaces(slides, tmp_path):
    with pytest.raises(ConfigError, match="overwrite without parts"):
        tile_part(slides, tmp_path / "store", CONFIG, parts(2)[0], overwrite=True, quiet=True)
    assert not (tmp_path / "store").exists()
