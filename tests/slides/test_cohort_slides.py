"""One table of a cohort: its slides are found, checked, tiled, embedded, mapped and scored."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

import dirl
from dirl import synthetic
from dirl.cli.main import app
from dirl.core.errors import ConfigError, PartlyFailedError, SlideError
from dirl.evaluate.common.labels import read_labels
from dirl.slides.cohort_check import cohort_check
from dirl.store.dataset import TileStore
from dirl.tables.cohort import cohort_slides
from dirl.tables.label_column import join_source, split_source

ENCODER = "timm:vit_tiny_patch16_224,weights=random,embed_dim=24,depth=1,num_heads=2,patch_size=8,img_size=64"


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of two slides in a folder beside it; the second has no resolution of its own."""
    folder = tmp_path_factory.mktemp("cohort")
    (folder / "scans").mkdir()
    slide = synthetic.write(folder / "scans" / "a.tif", seed=1, size_px=(384, 384))
    Image.fromarray(slide.rgb[::-1]).save(folder / "scans" / "b.png")
    table = folder / "cohort.csv"
    table.write_text(
        "path;mpp;Case ID;hospital;grade\nscans/a.tif;;P1;Leeds;high\nscans/b.png;0,5;P2;;low\n",
        encoding="utf-8-sig",
    )
    return table


def test_the_table_names_the_slides(cohort: Path, tmp_path: Path) -> None:
    assert cohort_slides(cohort) == [cohort.parent / "scans" / name for name in ("a.tif", "b.png")]
    absolute = tmp_path / "t.csv"
    absolute.write_text(f"slide_id,file_path\nx,{cohort.parent / 'scans' / 'a.tif'}\n")
    assert cohort_slides(absolute) == [cohort.parent / "scans" / "a.tif"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("slide_id,mpp\na,0.5\n", r"names no file of a slide.*slide_id, mpp.*column path"),
        ("path\na.svs\n", "names no file of a slide"),
        ("path\nscans/a.tif\nscans/c.tif\n", "1 of 2 slides in column path are no files, first scans/c.tif"),
        ("path,mpp\nscans/a.tif,0.5\n,0.5\n", "1 rows have no path"),
    ],
)
def test_a_table_without_its_files_is_refused(cohort: Path, text: str, reason: str) -> None:
    table = cohort.parent / "wrong.csv"
    table.write_text(text)
    with pytest.raises(ConfigError, match=reason):
        cohort_slides(table)


def test_every_slide_is_checked(cohort: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "dirl")
    found = cohort_check(cohort, quiet=True)
    a, b = found.slides
    assert not found.failures and (a.slide_id, b.slide_id) == ("a", "b")
    assert (a.mpp_from, b.mpp_from, b.mpp) == ("file", "table", 0.5)
    assert a.size_px == b.size_px == (384, 384) and a.tissue > 0.2
    assert (a.patient_id, a.centre, a.missing) == ("P1", "Leeds", ())
    assert (b.patient_id, b.centre, b.missing) == ("P2", None, ("centre",))
    result = CliRunner().invoke(app, ["cohort", "check", str(cohort)])
    assert result.exit_code == 0, result.output
    assert "patients from column Case ID (2)" in caplog.text and "unused columns: grade" in caplog.text
    assert "2 slides can be used; 2 patients and 1 centre are known" in result.output


def test_a_slide_that_cannot_be_used_is_listed_and_the_others_too(cohort: Path) -> None:
    (cohort.parent / "scans" / "c.png").write_bytes(b"no picture")
    table = cohort.parent / "three.csv"
    table.write_text("path,mpp\nscans/a.tif,\nscans/b.png,\nscans/c.png,0.5\n")
    result = CliRunner().invoke(app, ["cohort", "check", str(table), "--quiet"])
    assert result.exit_code == 2
    assert "2 failed, 1 done" in result.output and "no resolution" in result.output
    found = cohort_check(table, workers=2, quiet=True)
    assert [one.slide_id for one in found.slides] == ["a"] and list(found.failures) == ["b", "c"]


@pytest.mark.filterwarnings("ignore:the weights are random")
def test_one_table_serves_every_stage(cohort: Path, tmp_path: Path) -> None:
    def run(*words: str) -> str:
        result = CliRunner().invoke(app, [*words, "--quiet"])
        assert result.exit_code == 0, result.output
        return result.output

    table, store, features = str(cohort), tmp_path / "store", tmp_path / "features"
    size = ("--mpp", "0.5", "--size", "64")
    run("tile", "--cohort", table, *size, "--out", str(store))
    opened = TileStore.open(store)
    assert set(opened.slides) == {"a", "b"} and opened.slides["b"].mpp == 0.5
    assert set(opened.patient_ids) == {"P1", "P2"} and "Leeds" in opened.centres
    by_store = dirl.tile(
        cohort_slides(cohort), tmp_path / "other", dirl.TileConfig(size_px=64), cohort=cohort
    )
    assert np.array_equal(by_store.tile_ids, opened.tile_ids)
    run("embed", ENCODER, "--cohort", table, *size, "--out", str(features))
    embedded = dirl.read_features(features)
    assert set(embedded.patient_ids) == {"P1", "P2"}
    labels = read_labels(opened, f"{table},label=grade")
    assert {(slide, grade) for slide, grade in zip(opened.slide_ids, labels.classes, strict=True)} == {
        ("a", "high"),
        ("b", "low"),
    }
    run("map", ENCODER, "--cohort", table, "--mpp", "0.5", "--size", "64", "--out", str(tmp_path / "maps"))
    assert all((tmp_path / "maps" / name / "attention.ome.tif").exists() for name in "ab")
    again = dirl.map_cohort(
        ENCODER, cohort, tmp_path / "maps", dirl.MapConfig(mpp=0.5, size_px=64), quiet=True
    )
    assert list(again) == ["a", "b"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tile", "--out", "s"], "no slides.*name slides, or a cohort's table"),
        (["embed", ENCODER, "--out", "f"], "--store, --slides, --cohort: none given"),
        (["probe", ".", "--out", "p"], "--labels, --cohort: neither of them given"),
        (["probe", ".", "--out", "p", "--labels", "label", "--cohort", "{0}"], "both given"),
        (["probe", ".", "--out", "p", "--labels", "label", "--label", "x"], "it names a column of --cohort"),
        (["map", ENCODER, "--out", "m"], "no slides"),
        (["map", ENCODER, "{0}", "--cohort", "{0}", "--out", "m"], "both given"),
    ],
)
def test_what_cannot_be_meant_is_refused(cohort: Path, words: list[str], said: str) -> None:
    result = CliRunner().invoke(app, [word.format(cohort) for word in words])
    assert result.exit_code == 2
    assert re.search(said, result.output), result.output


@pytest.mark.filterwarnings("ignore:the weights are random")
def test_a_map_that_fails_leaves_the_others(cohort: Path, tmp_path: Path) -> None:
    Image.new("RGB", (384, 384), (243, 243, 243)).save(cohort.parent / "scans" / "glass.png")
    table = cohort.parent / "glass.csv"
    table.write_text("path,mpp\nscans/glass.png,0.5\nscans/a.tif,\n")
    with pytest.raises(PartlyFailedError, match="1 failed, 1 done") as caught:
        dirl.map_cohort(ENCODER, table, tmp_path, dirl.MapConfig(mpp=0.5, size_px=64), quiet=True)
    assert isinstance(caught.value.failures["glass"], SlideError)
    assert (tmp_path / "a" / "attention.ome.tif").exists()


@settings(max_examples=50)
@given(
    path=st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1),
    column=st.text(st.characters(codec="utf-8", exclude_characters=",="), min_size=1),
)
def test_a_source_of_labels_is_read_as_it_was_written(path: str, column: str) -> None:
    if ",label=" in str(Path(path)):
        return
    assert split_source(join_source(Path(path), column)) == (Path(path), column)
