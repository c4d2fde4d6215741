"""Patients and centres in the index: from barcodes, from a table, and missing in older stores."""

import shutil

import pyarrow.parquet as pq
import pytest
from PIL import Image

from dirl.config import TileConfig
from dirl.core.card import note_change
from dirl.core.errors import ConfigError, SlideError, StoreError
from dirl.core.files import read_json, write_json
from dirl.store.build import tile
from dirl.store.dataset import TileStore
from dirl.synthetic import write

CONFIG = TileConfig(size_px=128, min_tissue=0.3)
NAMES = ("TCGA-CR-7395-01A", "plain")


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    for seed, name in enumerate(NAMES):
        write(folder / f"{name}.tiff", seed + 1, (512, 384))
    return folder


@pytest.fixture(scope="module")
def made(slides, tmp_path_factory):
    return tile([slides], tmp_path_factory.mktemp("store") / "store", CONFIG, quiet=True)


@pytest.fixture
def store(made, tmp_path):
    shutil.copytree(made.path, tmp_path / "store")
    return TileStore.open(tmp_path / "store")


@pytest.fixture
def table(tmp_path):
    def write_csv(*lines):
        path = tmp_path / "slides.csv"
        path.write_text("\n".join(["slide_id,patient_id,centre,mpp", *lines]) + "\n")
        return path

    return write_csv


def of_slides(store):
    """(patient, centre) by slide, from the index and from the records, which must agree."""
    rows = store.index.select(["slide_id", "patient_id", "centre"]).to_pylist()
    found = {row["slide_id"]: (row["patient_id"], row["centre"]) for row in rows}
    assert found == {name: (record.patient_id, record.centre) for name, record in store.slides.items()}
    return found


def test_a_barcode_names_patient_and_centre(made):
    assert of_slides(made) == {"TCGA-CR-7395-01A": ("TCGA-CR-7395", "TCGA-CR"), "plain": (None, None)}
    assert set(zip(made.slide_ids, made.centres, strict=True)) == {(NAMES[0], "TCGA-CR"), ("plain", "")}


@pytest.mark.filterwarnings("ignore:a file gives")  # the table states another resolution
def test_a_table_states_what_files_do_not_tell(slides, tmp_path, table):
    path = table("plain,p7,Leeds,0.4", f"{NAMES[0]},,Torino,", "elsewhere,,,")
    with pytest.warns(UserWarning, match="1 rows match no slide here, first 'elsewhere'; 0 of 2 slides"):
        store = tile([slides], tmp_path / "s", CONFIG, cohort=path, quiet=True)
    assert of_slides(store) == {NAMES[0]: ("TCGA-CR-7395", "Torino"), "plain": ("p7", "Leeds")}
    assert [store.slides[name].mpp for name in NAMES] == [pytest.approx(0.5), 0.4]


def test_a_table_is_put_into_slides_that_are_there_without_tiling_again(store, slides, table):
    before = {name: (store.path / "tiles" / f"{name}.tar").stat().st_mtime_ns for name in NAMES}
    again = tile([slides], store.path, CONFIG, cohort=table("plain,,Leeds,"), quiet=True)
    assert of_slides(again) == {NAMES[0]: ("TCGA-CR-7395", "TCGA-CR"), "plain": (None, "Leeds")}
    assert {name: (store.path / "tiles" / f"{name}.tar").stat().st_mtime_ns for name in NAMES} == before
    # What was stated once stays where nothing else is.
    assert of_slides(tile([slides], store.path, CONFIG, quiet=True)) == of_slides(again)
    assert again.index.drop_columns("centre").equals(store.index.drop_columns("centre"))


def test_a_statement_that_was_interrupted_is_made_good(store, slides, table, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    path = table("plain,p7,Leeds,")
    for name in ("write_parquet", "write_json"):
        with monkeypatch.context() as patch:
            patch.setattr(f"dirl.store.tiles_writer.{name}", interrupt)
            with pytest.raises(KeyboardInterrupt):
                tile([slides], store.path, CONFIG, cohort=path, quiet=True)
    again = tile([slides], store.path, CONFIG, cohort=path, quiet=True)
    assert of_slides(again)["plain"] == ("p7", "Leeds")


@pytest.mark.filterwarnings("ignore:a file gives")  # the table states another resolution
def test_another_resolution_than_a_slide_was_tiled_at_is_refused(store, slides, table):
    path = table("plain,,,0.3")
    with pytest.raises(StoreError, match=r"with 0\.5 µm/px, but the table gives 0\.3 now.*--overwrite"):
        tile([slides / "plain.tiff"], store.path, CONFIG, cohort=path, quiet=True)


def test_a_table_of_other_slides_is_refused(slides, tmp_path, table):
    with pytest.raises(ConfigError, match=r"has none of the 2 slides here \(TCGA-CR-7395-01A, plain\)"):
        tile([slides], tmp_path / "s", CONFIG, cohort=table("a,b,c,"), quiet=True)
    assert not (tmp_path / "s").exists()


def test_classes_of_ready_made_tiles_may_be_centres_but_share_an_mpp(tmp_path, table):
    for name in ("a", "b"):
        (tmp_path / "classes" / name).mkdir(parents=True)
        Image.new("RGB", (64, 64), (200, 120, 180)).save(tmp_path / "classes" / name / "t.png")
    config = TileConfig(mpp_override=1.0)
    inputs = [tmp_path / "classes"]
    store = tile(inputs, tmp_path / "s", config, cohort=table("a,,Leeds,", "b,,Torino,"), quiet=True)
    assert store.centres.tolist() == ["Leeds", "Torino"]
    with pytest.raises(ConfigError, match=r"gives the mpp of b, but all ready-made tiles.*--mpp-override"):
        tile(inputs, tmp_path / "t", config, cohort=table("b,,,0.5"), quiet=True)


def without_centres(store):
    """Make a store what it was before there were centres."""
    for path in [store.path / "index.parquet", *(store.path / "tiles").glob("*.parquet")]:
        pq.write_table(pq.read_table(path).drop_columns("centre"), path)
    for path in (store.path / "tiles").glob("*.json"):
        write_json(path, {k: v for k, v in read_json(path).items() if k != "centre"})
    records = read_json(store.path / "slides.json")
    write_json(store.path / "slides.json", [{k: v for k, v in r.items() if k != "centre"} for r in records])
    note_change(store.path, "index.parquet", "slides.json")
    return TileStore.open(store.path)


def test_a_store_written_before_there_were_centres_is_read_and_added_to(store, slides, table):
    old = without_centres(store)
    assert set(old.centres) == {""} and old.index.column_names == store.index.column_names
    assert old.image(0).shape == (128, 128, 3)
    again = tile([slides], store.path, CONFIG, cohort=table("plain,,Leeds,"), quiet=True)
    assert of_slides(again)["plain"] == (None, "Leeds")
    assert len(again) == len(old)


def test_an_index_that_lacks_more_is_refused(store):
    path = store.path / "index.parquet"
    pq.write_table(pq.read_table(path).drop_columns("offset"), path)
    note_change(store.path, "index.parquet")
    with pytest.raises(StoreError, match="not an index of this version"):
        TileStore.open(store.path)


def test_the_tile_of_a_slide_without_resolution_needs_the_table(data_dir, tmp_path, table):
    slide = data_dir / "slides" / "TCGA-CR-7395-01A-01-TS1.svs"
    with pytest.raises(SlideError, match="gives no resolution"):
        tile([slide], tmp_path / "s", CONFIG, quiet=True)
    stated = table("TCGA-CR-7395-01A-01-TS1,,,0.5")
    store = tile([slide], tmp_path / "t", CONFIG, cohort=stated, quiet=True)
    assert of_slides(store) == {slide.stem: ("TCGA-CR-7395", "TCGA-CR")}
