"""Features straight from slides: those of the tiles that `dirl tile` would cut; bad slides are named."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from dirl import synthetic
from dirl.config import EmbedConfig, TileConfig
from dirl.core.errors import ConfigError, DirlError, PartlyFailedError, SlideError, StoreError
from dirl.encoders.loading import load_encoder, preprocess
from dirl.evaluate.mil.bags import read_bags
from dirl.evaluate.probe.run import probe
from dirl.features.embed import embed
from dirl.features.feature_files import Features, read_features
from dirl.features.sources import SlideFiles
from dirl.slides.reading import open_slide
from dirl.slides.tiling import TileSpec, plan_tiles, read_tile
from dirl.slides.tissue import find_tissue
from dirl.store.build import tile
from dirl.store.cut import CutSlide
from dirl.store.dataset import TileStore

CONFIG = TileConfig(size_px=64, mpp=0.7, stride_px=80, min_tissue=0.4, jpeg_quality=100)
SMALL: dict[str, Any] = {"batch": 7, "device": "cpu", "quiet": True}


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of two slides."""
    folder = tmp_path_factory.mktemp("slides")
    synthetic.write(folder / "b.tif", seed=1, size_px=(640, 512))
    synthetic.write(folder / "a.x.tif", seed=2, size_px=(512, 512))
    return folder


@pytest.fixture(scope="module")
def made(slides: Path, encoder_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Features:
    return embed(
        str(encoder_run), SlideFiles([slides], CONFIG), tmp_path_factory.mktemp("out") / "f", **SMALL
    )


def test_equal_to_a_forward_of_the_slides_own_pixels(made: Features, slides: Path, encoder_run: Path) -> None:
    images, ids = [], []
    for name in ("a.x", "b"):
        slide = open_slide(slides / f"{name}.tif")
        spec = TileSpec(64, 0.7, 80, 0.4)
        for one in plan_tiles(slide, find_tissue(slide), spec):
            images.append(read_tile(slide, one, spec))
            ids.append(one.tile_id)
    encoder = load_encoder(str(encoder_run))
    with torch.inference_mode():
        ready = preprocess(encoder, torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2))
        expected = encoder.model(ready).numpy()
    assert made.tile_ids.tolist() == ids
    np.testing.assert_allclose(made.values, expected, atol=1e-5)


def test_equal_to_those_of_a_store_but_for_jpeg(
    made: Features, slides: Path, encoder_run: Path, tmp_path: Path
) -> None:
    store = tile([slides], tmp_path / "store", CONFIG, quiet=True)
    other = embed(str(encoder_run), store.path, tmp_path / "features", **SMALL)
    for name in ("tile_ids", "slide_ids", "patient_ids", "labels", "coords", "ready_made"):
        np.testing.assert_array_equal(getattr(made, name), getattr(other, name))
    assert np.bitwise_count(made.hashes ^ other.hashes).max() <= 4  # type: ignore[operator]
    for values, others in (
        (made.values, other.values),
        *((made.baselines[name], other.baselines[name]) for name in ("untrained", "colour_statistics")),
    ):
        cosine = (values * others).sum(1) / np.linalg.norm(values, axis=1) / np.linalg.norm(others, axis=1)
        assert cosine.min() > 0.999
    for name in ("a.x", "b"):
        files = [h5py.File(each.path / "h5_files" / f"{name}.h5") for each in (made, other)]
        one, two = (dict(file["coords"].attrs) for file in files)
        assert one == two and set(files[0]) == set(files[1])
        for file in files:
            file.close()


def test_nothing_of_the_tiles_is_written(made: Features) -> None:
    names = {path.relative_to(made.path).as_posix() for path in made.path.rglob("*") if path.is_file()}
    assert names == {
        "card.json",
        *(f"{part}/{s}.h5" for part in ("h5_files", "baselines") for s in ("a.x", "b")),
    }


def test_bad_slides_are_named_and_tried_again(slides: Path, encoder_run: Path, tmp_path: Path) -> None:
    for path in slides.iterdir():
        (tmp_path / "in" / path.name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / path.name).write_bytes(path.read_bytes())
    Image.new("RGB", (512, 512), (240, 240, 240)).save(tmp_path / "in" / "glass.png")
    (tmp_path / "in" / "broken.svs").write_bytes(b"no slide")
    config = CONFIG.model_copy(update={"mpp_override": 0.5})
    for _ in range(2):
        with pytest.raises(
            PartlyFailedError, match=r"2 failed, 2 done(.|\n)*broken(.|\n)*no tissue"
        ) as caught:
            embed(str(encoder_run), SlideFiles([tmp_path / "in"], config), tmp_path / "out", **SMALL)
        assert set(caught.value.failures) == {"broken", "glass"} and caught.value.exit_code == 2
    features = read_features(tmp_path / "out")
    assert set(features.slide_ids.tolist()) == {"a.x", "b"} and features.card.counts["failed"] == 2
    assert read_bags(tmp_path / "out", quiet=True).slide_ids.tolist() == ["a.x", "b"]
    with pytest.raises(SlideError, match="broken"):
        embed(str(encoder_run), SlideFiles([tmp_path / "in" / "broken.svs"]), tmp_path / "one", **SMALL)
    assert not (tmp_path / "one").exists()


def failing_at(place: int, error: BaseException) -> Callable[[CutSlide, int], Any]:
    image = CutSlide.image

    def fail(cut: CutSlide, i: int) -> Any:
        if cut.record.slide_id == "b" and i == place:
            raise error
        return image(cut, i)

    return fail


@pytest.mark.parametrize("error", [SlideError("damaged there"), ValueError("surprise")])
def test_a_slide_damaged_within_is_left_out_whole_and_done_when_it_is_sound(
    made: Features,
    slides: Path,
    encoder_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(CutSlide, "image", failing_at(9, error))
        with pytest.raises(PartlyFailedError, match=f"1 failed, 1 done(.|\n)*{error.args[0]}"):
            embed(str(encoder_run), SlideFiles([slides], CONFIG), tmp_path / "out", **SMALL)
    assert [path.name for path in (tmp_path / "out" / "h5_files").iterdir()] == ["a.x.h5"]
    again = embed(str(encoder_run), SlideFiles([slides], CONFIG), tmp_path / "out", **SMALL)
    np.testing.assert_array_equal(again.values, made.values)
    assert again.card.counts == made.card.counts


def test_failed_slides_tried_again_and_interrupted_are_no_result_until_done(
    made: Features, slides: Path, encoder_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    for error, raised in (
        (SlideError("damaged"), PartlyFailedError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(CutSlide, "image", failing_at(9, error))
            with pytest.raises(raised):
                embed(str(encoder_run), SlideFiles([slides], CONFIG), out, **SMALL)
    with pytest.raises(StoreError, match=r"unfinished.*same `dirl embed`"):
        read_features(out)
    again = embed(str(encoder_run), SlideFiles([slides], CONFIG), out, **SMALL)
    np.testing.assert_array_equal(again.values, made.values)


@pytest.mark.filterwarnings("ignore:a file gives 0.5 µm/px, but 0.6 µm/px is used")
def test_what_a_table_states_reaches_the_features(
    slides: Path, encoder_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="dirl")
    (tmp_path / "slides.csv").write_text("slide_id,patient_id,mpp\nb,p7,0.6\n")
    source = SlideFiles([slides], CONFIG, cohort=tmp_path / "slides.csv", quiet=True)
    assert not [each for each in caplog.records if each.name == "dirl"]
    found = embed(str(encoder_run), source, tmp_path / "out", baselines=False, **SMALL)
    assert set(zip(found.slide_ids.tolist(), found.patient_ids.tolist(), strict=True)) == {
        ("a.x", ""),
        ("b", "p7"),
    }
    with h5py.File(tmp_path / "out" / "h5_files" / "b.h5") as file:
        assert file["coords"].attrs["level0_mpp"] == 0.6


def test_other_slides_or_settings_are_refused(made: Features, slides: Path, encoder_run: Path) -> None:
    for paths, config in (([slides / "b.tif"], CONFIG), ([slides], CONFIG.model_copy(update={"mpp": 0.8}))):
        with pytest.raises(StoreError, match=r"made with other settings .*(slides|mpp)"):
            embed(str(encoder_run), SlideFiles(paths, config), made.path, **SMALL)


@pytest.mark.parametrize(
    ("options", "message"), [({"pool": "regions"}, "cells.*--store"), ({"tiles": 3}, "embedded completely")]
)
def test_what_needs_a_store_is_refused(
    slides: Path, encoder_run: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        embed(str(encoder_run), SlideFiles([slides]), tmp_path / "out", EmbedConfig(**options), **SMALL)
    assert not (tmp_path / "out").exists()


def test_ready_made_tiles_are_no_slides(tile_store: Path) -> None:
    with pytest.raises(SlideError, match="dirl tile"):
        SlideFiles([tile_store.parent / "tiles"])


def test_without_baselines_those_who_judge_by_them_say_so(
    tile_store: Path, encoder_run: Path, tmp_path: Path
) -> None:
    features = embed(str(encoder_run), tile_store, tmp_path / "out", baselines=False, **SMALL)
    assert features.baselines == {} and not (tmp_path / "out" / "baselines").exists()
    assert read_bags(tmp_path / "out", quiet=True).sets == ("features",)
    names = TileStore.open(tile_store).tile_ids.tolist()
    rows = [f"{name},{name.split('/')[0]},{i % 4},{i % 4}" for i, name in enumerate(names)]
    (tmp_path / "labels.csv").write_text("\n".join(["tile_id,label,group,fold", *rows]))
    summary = probe(tmp_path / "out", str(tmp_path / "labels.csv"), tmp_path / "probe", quiet=True).summary
    assert set(summary.results) == {"features"} and summary.gate.passed is None
    bare = "\n".join(",".join([*row.split(",")[:2], str(i % 4)]) for i, row in enumerate(rows))
    (tmp_path / "folds.csv").write_text(f"tile_id,label,fold\n{bare}\n")
    given = probe(tmp_path / "out", str(tmp_path / "folds.csv"), tmp_path / "given", quiet=True).summary
    assert given.split.scheme == "folds" and given.interval.over == "tiles"
    with pytest.raises(DirlError, match="with baselines"):
        probe(tmp_path / "out", "label", tmp_path / "stain", quiet=True)
    with pytest.raises(StoreError, match=r"other settings .*baselines False"):
        embed(str(encoder_run), tile_store, tmp_path / "out", **SMALL)


def test_a_real_slide_gives_what_its_store_gives(data_dir: Path, encoder_run: Path, tmp_path: Path) -> None:
    slide = data_dir / "slides" / "CMU-1-Small-Region.svs"
    config = TileConfig(max_tiles=6)  # JPEGs of the quality that a store has
    made = embed(str(encoder_run), SlideFiles([slide], config), tmp_path / "slides", **SMALL)
    store = tile([slide], tmp_path / "store", config, quiet=True)
    other = embed(str(encoder_run), store.path, tmp_path / "tiles", **SMALL)
    np.testing.assert_array_equal(made.tile_ids, other.tile_ids)
    np.testing.assert_array_equal(made.coords, other.coords)
    assert np.bitwise_count(made.hashes ^ other.hashes).max() <= 4  # type: ignore[operator]
    lengths = np.linalg.norm(made.values, axis=1) * np.linalg.norm(other.values, axis=1)
    assert ((made.values * other.values).sum(1) / lengths).min() > 0.99
