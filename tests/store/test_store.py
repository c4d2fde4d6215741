"""A store read back equals what was written; nothing is half-written; bad input is named."""

import errno
import pickle
import shutil
import tarfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context

import numpy as np
import pytest
from PIL import Image

from dirl.config import TileConfig
from dirl.core.card import new_card
from dirl.core.errors import ConfigError, NoRoomError, PartlyFailedError, SlideError, StoreError
from dirl.core.files import read_json, write_json
from dirl.core.owner import content
from dirl.slides.reading import open_slide, read_box
from dirl.store import tiles_writer as writing
from dirl.store.build import tile
from dirl.store.cells_writer import cells_dir, cells_finished, merge_cells, write_cells
from dirl.store.dataset import TileStore
from dirl.store.index import TILES_SCHEMA, merge, read_parquet
from dirl.synthetic import write
from tests.known import known

CONFIG = TileConfig(size_px=128)


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    """Folder of two small synthetic slides and one of bare glass."""
    folder = tmp_path_factory.mktemp("slides")
    write(folder / "one.tiff", 1, (640, 512))
    write(folder / "two.tiff", 2, (512, 640))
    glass = folder / "glass"
    glass.mkdir()
    Image.new("RGB", (512, 512), (240, 240, 240)).save(glass / "glass.png")
    return folder


@pytest.fixture(scope="module")
def made(slides, tmp_path_factory):
    """Store of the two slides; tests do not change it."""
    out = tmp_path_factory.mktemp("store") / "store"
    return tile([slides / "one.tiff", slides / "two.tiff"], out, CONFIG, quiet=True)


@pytest.fixture
def store(made, tmp_path):
    """Copy of the store that a test may damage."""
    shutil.copytree(made.path, tmp_path / "store")
    return TileStore.open(tmp_path / "store")


def files_of(folder):
    return {p.relative_to(folder): p.stat().st_mtime_ns for p in content(folder)}


def test_tiles_read_back_are_the_slides_pixels(made):
    assert len(made) > 6
    for i in range(len(made)):
        row = {name: made.index[name][i].as_py() for name in made.index.column_names}
        slide = open_slide(made.slides[row["slide_id"]].path)
        want = read_box(slide, row["x"], row["y"], 128, 128, 0.5)
        image = made.image(i)
        assert image.shape == (128, 128, 3)
        assert np.abs(image.astype(int) - want).mean() < 6
        assert row["tissue_fraction"] >= 0.5
        assert row["tile_id"] == f"{row['slide_id']}_{row['x']}_{row['y']}"
        slide.close()


def test_the_index_speaks_for_every_tile(made):
    assert len(set(made.tile_ids)) == len(made)
    assert set(made.slide_ids) == set(made.slides) == {"one", "two"}
    assert set(made.labels) == {""}
    assert {s: r.tiles for s, r in made.slides.items()} == {
        s: int((made.slide_ids == s).sum()) for s in made.slides
    }
    assert (made.spec.size_px, made.spec.mpp, made.spec.stride_px) == (128, 0.5, 128)
    assert made.card.counts == {"slides": 2, "tiles": len(made), "failed": 0}
    assert made.slides["one"].mpp == pytest.approx(0.5)


def test_any_tar_reader_streams_it(made):
    names = []
    for slide in made.slides:
        with tarfile.open(made.path / "tiles" / f"{slide}.tar") as tar:
            for member in tar:
                names.append(member.name.removesuffix(".jpg"))
                assert Image.open(known(tar.extractfile(member))).size == (128, 128)
    assert sorted(names) == sorted(made.tile_ids)


def test_there_is_a_picture_of_every_slide(made):
    for slide, record in made.slides.items():
        with Image.open(made.path / "pictures" / f"{slide}.jpg") as picture:
            assert picture.width > 2 * record.size_px[0]


def test_pickled_stores_read_in_other_processes(made):
    again = pickle.loads(pickle.dumps(made))
    assert np.array_equal(again.image(3), made.image(3))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert np.array_equal(pool.submit(made.image, 3).result(60), made.image(3))


def test_two_workers_make_the_same_store(made, slides, tmp_path):
    other = tile([slides / "two.tiff", slides / "one.tiff"], tmp_path / "s", CONFIG, workers=2, quiet=True)
    assert other.index.equals(made.index)
    assert other.digest == made.digest
    for slide in made.slides:
        name = f"tiles/{slide}.tar"
        assert (other.path / name).read_bytes() == (made.path / name).read_bytes()


def test_run_again_nothing_is_made_anew(store, slides, monkeypatch):
    before = files_of(store.path / "tiles")
    monkeypatch.setattr(writing, "cut_slide", None)
    tile([slides / "one.tiff", slides / "two.tiff"], store.path, CONFIG, quiet=True)
    assert files_of(store.path / "tiles") == before


def test_other_inputs_are_added(slides, tmp_path):
    tile([slides / "one.tiff"], tmp_path / "s", CONFIG, quiet=True)
    store = tile([slides / "two.tiff"], tmp_path / "s", CONFIG, quiet=True)
    assert set(store.slides) == {"one", "two"}


def test_other_settings_are_refused_and_replaced_when_told(store, slides):
    other = TileConfig(size_px=160)
    with pytest.raises(StoreError, match=r"other settings.*size_px 128 there, 160 now.*--overwrite"):
        tile([slides / "one.tiff"], store.path, other, quiet=True)
    both = [slides / "one.tiff", slides / "two.tiff"]
    again = tile(both, store.path, other, overwrite=True, quiet=True)
    assert (again.spec.size_px, set(again.slides)) == (160, {"one", "two"})


def test_another_slide_of_the_same_name_is_refused(store, slides, tmp_path):
    write(tmp_path / "one.tiff", 7, (512, 512))
    with pytest.raises(StoreError, match=r"has a slide one from another file or version of it, .*rename"):
        tile([tmp_path / "one.tiff"], store.path, CONFIG, quiet=True)


def test_a_slide_added_beside_one_of_its_name_is_still_itself(slides, tmp_path):
    for centre, name in (("a", "one"), ("b", "two")):
        (tmp_path / centre).mkdir()
        shutil.copy(slides / f"{name}.tiff", tmp_path / centre / "s.tiff")
    tile([tmp_path / "a"], tmp_path / "store", CONFIG, quiet=True)
    store = tile([tmp_path / "a", tmp_path / "b"], tmp_path / "store", CONFIG, quiet=True)
    assert set(store.slides) == {"s", "b_s"}
    (tmp_path / "store" / "slides.json").unlink()  # as after an interruption
    again = tile([tmp_path / "a", tmp_path / "b"], tmp_path / "store", CONFIG, quiet=True)
    assert again.digest == store.digest
    # A table's rows are by the names in the store, by whatever way a slide is found.
    (tmp_path / "table.csv").write_text("slide_id,patient_id\ns,P1\nb_s,P2\n")
    table = tmp_path / "table.csv"
    with pytest.warns(UserWarning, match="1 rows match no slide here, first 's'"):
        tile([tmp_path / "b"], tmp_path / "store", CONFIG, cohort=table, quiet=True)
    patients = {one.slide_id: one.patient_id for one in TileStore.open(tmp_path / "store").slides.values()}
    assert patients == {"s": None, "b_s": "P2"}


def test_slides_whose_tiles_would_have_the_same_names_are_refused(slides, tmp_path):
    for name, as_ in (("one", "s.1"), ("two", "s_1")):
        shutil.copy(slides / f"{name}.tiff", tmp_path / f"{as_}.tiff")
    tile([tmp_path / "s.1.tiff"], tmp_path / "store", CONFIG, quiet=True)
    with pytest.raises(StoreError, match=r"s_1\.tiff: its tiles would have the same names as those .* s\.1"):
        tile([tmp_path / "s_1.tiff"], tmp_path / "store", CONFIG, quiet=True)
    assert set(TileStore.open(tmp_path / "store").slides) == {"s.1"}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_an_interrupted_run_leaves_no_half_slide_and_is_taken_up(slides, tmp_path, monkeypatch, error, made):
    done = []

    def fail(*args):
        done.append(args)
        if len(done) == len(made.index.filter(made.slide_ids == "one")) + 3:
            raise error
        return encode(*args)

    encode = writing._encode
    monkeypatch.setattr(writing, "_encode", fail)
    inputs = [slides / "one.tiff", slides / "two.tiff"]
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else NoRoomError):
        tile(inputs, tmp_path / "s", CONFIG, quiet=True)
    names = {path.name for path in files_of(tmp_path / "s")}
    assert names == {"card.json", "one.tar", "one.json", "one.parquet", "one.jpg"}
    with pytest.raises(StoreError, match=r"index\.parquet: missing.*run the same `dirl tile` again"):
        TileStore.open(tmp_path / "s")
    monkeypatch.undo()
    assert tile(inputs, tmp_path / "s", CONFIG, quiet=True).index.equals(made.index)


def test_a_truncated_tar_is_named_and_made_anew(store, slides, made):
    shard = store.path / "tiles" / "two.tar"
    shard.write_bytes(shard.read_bytes()[:-5000])
    with pytest.raises(StoreError, match=r"two\.tar: truncated.*again"):
        TileStore.open(store.path)
    again = tile([slides / "one.tiff", slides / "two.tiff"], store.path, CONFIG, quiet=True)
    assert again.index.equals(made.index)


def test_a_damaged_tile_is_named(store):
    shard = store.path / "tiles" / "one.tar"
    data = bytearray(shard.read_bytes())
    data[store.index["offset"][0].as_py()] ^= 255
    shard.write_bytes(data)
    with pytest.raises(StoreError, match=r"one\.tar: .*differ from the written ones.*`dirl tile` again"):
        TileStore.open(store.path).image(0)


def test_a_table_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "t.parquet").write_bytes(b"no Parquet")
    with pytest.raises(StoreError, match=r"t\.parquet: damaged .* — make it"):
        read_parquet(tmp_path / "t.parquet", "make it")

    def fail(*_, **__):
        raise OSError("Corrupt snappy compressed data")

    monkeypatch.setattr("pyarrow.parquet.read_table", fail)
    with pytest.raises(StoreError, match=r"damaged .*Corrupt snappy"):
        merge([tmp_path / "t.parquet"], tmp_path / "out.parquet", TILES_SCHEMA)


def test_what_is_no_store_is_refused(tmp_path):
    with pytest.raises(StoreError, match="no such directory"):
        TileStore.open(tmp_path / "none")
    with pytest.raises(StoreError, match=r"not a tile store .it has no card\.json"):
        TileStore.open(tmp_path)
    (tmp_path / "file.svs").write_text("")
    with pytest.raises(StoreError, match="not made by dirl"):
        tile([tmp_path / "file.svs"], tmp_path, CONFIG, quiet=True)


def test_a_slide_without_tissue_is_reported_and_the_others_are_done(slides, tmp_path):
    config = CONFIG.model_copy(update={"mpp_override": 0.5})
    with pytest.raises(SlideError, match=r"glass\.png: no tissue found.*all glass"):
        tile([slides / "glass" / "glass.png"], tmp_path / "a", config, quiet=True)
    with pytest.raises(PartlyFailedError, match=r"1 failed, 2 done") as caught:
        tile([slides], tmp_path / "b", config, quiet=True)
    assert caught.value.exit_code == 2
    assert set(TileStore.open(tmp_path / "b").slides) == {"one", "two"}


def test_real_slides_good_and_bad(data_dir, tmp_path):
    with pytest.raises(PartlyFailedError) as caught:
        tile([data_dir / "slides"], tmp_path / "s", TileConfig(), quiet=True)
    assert set(caught.value.failures) == {"broken", "TCGA-CR-7395-01A-01-TS1"}
    store = TileStore.open(tmp_path / "s")
    places = list(zip(store.slide_ids, *(store.index[c].to_pylist() for c in "xy"), strict=True))
    svs, dicom = (
        {(x, y) for slide, x, y in places if slide == name}
        for name in ("CMU-1-Small-Region", "dicom-cmu-1-small-region")
    )
    assert len(svs & dicom) >= 0.9 * len(svs | dicom) > 20


def class_folders(folder, side=64):
    rng = np.random.default_rng(0)
    for name in ("benign", "tumour"):
        (folder / name).mkdir(parents=True)
        for i in range(4):
            pixels = rng.integers(80, 200, (side, side, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"t.{i}.{'jpg' if i % 2 else 'png'}")
    return folder


def test_ready_made_tiles_keep_their_bytes_size_and_class(tmp_path):
    folder = class_folders(tmp_path / "classes")
    config = TileConfig(mpp_override=1.0)
    store = tile([folder], tmp_path / "s", config, quiet=True)
    assert (store.spec.size_px, store.spec.mpp, len(store)) == (64, 1.0, 8)
    assert sorted(set(store.labels)) == ["benign", "tumour"]
    assert store.slides["tumour"].kind == "tiles"
    for i, tile_id in enumerate(store.tile_ids):
        label, stem = tile_id.split("/")
        assert label == store.labels[i]
        assert "." not in stem
        number = int(stem[-1])
        if number % 2:
            assert store.jpeg(i) == (folder / label / f"t.{number}.jpg").read_bytes()
        else:
            want = np.asarray(Image.open(folder / label / f"t.{number}.png")).astype(int)
            assert np.abs(store.image(i) - want).mean() < 12
    assert tile([folder], tmp_path / "s", config, quiet=True).digest == store.digest


def test_ready_made_tiles_of_several_sizes_or_without_resolution_are_refused(tmp_path):
    folder = class_folders(tmp_path / "classes")
    with pytest.raises(SlideError, match=r"ready-made tiles give no resolution.*--mpp-override"):
        tile([folder], tmp_path / "s", TileConfig(), quiet=True)
    Image.new("RGB", (32, 32)).save(folder / "tumour" / "small.png")
    with pytest.raises(PartlyFailedError, match=r"tumour: .*must all be 64×64.* 4 of 64×64, 1 of 32×32"):
        tile([folder], tmp_path / "s", TileConfig(mpp_override=1.0), quiet=True)


def test_ready_made_tiles_beside_slides_must_fit(tmp_path, slides):
    folder = class_folders(tmp_path / "classes")
    with pytest.raises(SlideError, match=r"64 px at 1 µm/px beside slides.*--size 64 --mpp 1"):
        tile([folder, slides / "one.tiff"], tmp_path / "s", TileConfig(mpp_override=1.0), quiet=True)
    assert not (tmp_path / "s").exists()


def test_slides_beside_ready_made_tiles_keep_their_own_resolution(tmp_path, slides):
    folder = class_folders(tmp_path / "classes")
    config = TileConfig(size_px=64, mpp=1.0, mpp_override=1.0)
    store = tile([folder, slides / "one.tiff"], tmp_path / "s", config, quiet=True)
    assert store.slides["one"].mpp == 0.5 and store.slides["tumour"].mpp == 1.0
    later = tile(
        [slides / "two.tiff"],
        tmp_path / "s",
        config.model_copy(update={"stride_px": 64}),
        quiet=True,
    )
    assert later.slides["two"].mpp == 0.5


def cells_of(store, slide_id, rng):
    for tile_id in store.tile_ids[store.slide_ids == slide_id]:
        labels = rng.integers(0, 5, (128, 128)).astype(np.int32) * 100_003
        yield str(tile_id), labels, np.where(labels > 0, 1, 2)


NUCLEI = {"id": [100_003], "x": [3.5], "y": [4.5], "area_um2": [30.0], "touches_border": [False]}


def fill(store, slide_ids):
    for slide_id in slide_ids:
        write_cells(store.path, "mine", slide_id, cells_of(store, slide_id, np.random.default_rng(0)), NUCLEI)
    merge_cells(store.path, "mine")
    write_json(cells_dir(store.path, "mine") / "card.json", asdict(new_card("cells", {})))


def test_cells_come_back_by_the_tiles_numbers(store):
    fill(store, ["two", "one"])
    cells = pickle.loads(pickle.dumps(store.cells("mine")))
    assert len(cells) == len(store)
    want = {}
    for slide_id in store.slides:
        for tile_id, labels, regions in cells_of(store, slide_id, np.random.default_rng(0)):
            want[tile_id] = labels, regions
    for i, tile_id in enumerate(store.tile_ids):
        assert np.array_equal(cells.labels(i), want[tile_id][0])
        assert np.array_equal(cells.regions(i), want[tile_id][1])
    nuclei = cells.nuclei("one").to_pylist()[0]
    assert (nuclei["id"], nuclei["class"], nuclei["tile_id"]) == (100_003, None, None)


def test_missing_cells_say_how_to_make_them(store):
    with pytest.raises(StoreError, match=r"no cells of mine — run `dirl cells [^ ]*`"):
        store.cells("mine")
    with pytest.raises(StoreError, match=r"no cells of hematoxylin.*run `dirl cells .* --segmenter hem"):
        store.cells("hematoxylin")
    fill(store, ["one"])
    with pytest.raises(StoreError, match=r"no cells of other; there are cells of mine") as caught:
        store.cells("other")
    assert caught.value.remedy == (  # other is no segmenter
        "name mine (--cells mine; `--set cells=mine` for `dirl pretrain`, `set: {cells: mine}` in a study), "
        f"or run `dirl cells {store.path}`"
    )
    with pytest.raises(StoreError, match=r"--cells mine.* or run `dirl cells .* --segmenter hematoxylin`"):
        store.cells("hematoxylin")
    with pytest.raises(StoreError, match=rf"no cells of mine for \d+ of {len(store)} tiles"):
        store.cells("mine")


def test_finished_cells_are_whole(store):
    assert not cells_finished(store.path, "mine", "one")
    fill(store, ["one"])
    assert cells_finished(store.path, "mine", "one")
    shard = cells_dir(store.path, "mine") / "one.tar"
    shard.write_bytes(shard.read_bytes()[:-2000])
    assert not cells_finished(store.path, "mine", "one")


def test_cells_that_fail_midway_leave_nothing(store):
    def items():
        yield from list(cells_of(store, "one", np.random.default_rng(0)))[:2]
        raise ConfigError("stop")

    with pytest.raises(ConfigError):
        write_cells(store.path, "mine", "one", items(), NUCLEI)
    assert not cells_finished(store.path, "mine", "one")
    assert not list(cells_dir(store.path, "mine").glob("*.tar*"))


def test_the_record_of_a_slide_is_plain_json(made):
    record = read_json(made.path / "tiles" / "one.json")
    assert record["slide_id"] == "one"
    assert record["size_px"] == [640, 512]


def test_a_store_without_tiles_takes_other_settings(tmp_path):
    write(tmp_path / "named.tiff", 1, (320, 256))
    slide = Image.open(tmp_path / "named.tiff").convert("RGB")
    slide.save(tmp_path / "bare.png")
    with pytest.raises(SlideError, match=r"no resolution.*--mpp-override UM"):
        tile([tmp_path / "bare.png"], tmp_path / "s", CONFIG, quiet=True)
    stated = CONFIG.model_copy(update={"mpp_override": 0.5})
    store = tile([tmp_path / "bare.png"], tmp_path / "s", stated, quiet=True)
    assert store.slides["bare"].mpp == 0.5
    with pytest.raises(StoreError, match=r"mpp_override 0.5 there, none now"):
        tile([tmp_path / "bare.png"], tmp_path / "s", CONFIG, quiet=True)


def test_beside_tiled_slides_a_table_states_the_resolution(tmp_path):
    write(tmp_path / "named.tiff", 1, (320, 256))
    Image.open(tmp_path / "named.tiff").convert("RGB").save(tmp_path / "bare.png")
    inputs = [tmp_path / "named.tiff", tmp_path / "bare.png"]
    with pytest.raises(PartlyFailedError, match=r"no resolution.*--cohort") as caught:
        tile(inputs, tmp_path / "s", CONFIG, quiet=True)
    assert "--mpp-override" not in str(caught.value)
    (tmp_path / "table.csv").write_text("slide_id,mpp\nbare,0.5\n")
    store = tile(inputs, tmp_path / "s", CONFIG, cohort=tmp_path / "table.csv", quiet=True)
    assert {name: one.mpp for name, one in store.slides.items()} == {"bare": 0.5, "named": 0.5}


def test_a_slide_that_is_not_tiled_again_is_not_merged_while_it_is_damaged(slides, store):
    record = store.path / "tiles" / "two.json"
    record.write_text(record.read_text().replace('"two"', '"2"'))
    with pytest.raises(StoreError, match=r"two.json: missing, or not as dirl wrote it — run `dirl tile`"):
        tile([slides / "one.tiff"], store.path, CONFIG, quiet=True)
    tile([slides / "one.tiff", slides / "two.tiff"], store.path, CONFIG, quiet=True)
    assert set(TileStore.open(store.path).slides) == {"one", "two"}
