"""A whole map against the darkness of the slide itself, opened again with OpenSlide and tifffile."""

import json
import uuid
from dataclasses import replace
from typing import Any

import numpy as np
import openslide
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import tifffile

from dirl.config import MapConfig
from dirl.core.card import read_card
from dirl.core.errors import ConfigError, DirlWarning, EncoderError, SlideError, StoreError
from dirl.core.owner import content
from dirl.maps.run import map_slide
from dirl.maps.tiffs import _identifier
from dirl.slides.reading import open_slide, read_box
from tests.known import known
from tests.maps_cases import SQUARE, darkness_encoder, planted_rgb, write_tiff
from tests.scn_cases import write_scn


def token_darkness(rgb, side):
    """Mean darkness of whole blocks of pixels."""
    rows, columns = (extent // side for extent in rgb.shape[:2])
    blocks = rgb[: rows * side, : columns * side].reshape(rows, side, columns, side, 3)
    return 1 - blocks.mean((1, 3, 4)) / 255


def floats(path):
    with tifffile.TiffFile(path / "attention.ome.tif") as file:
        # tifffile drops the axis of a single channel.
        return [level.asarray().reshape(-1, *level.shape[-2:]) for level in file.series[0].levels]


@pytest.fixture(scope="module")
def made(planted, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "map"
    config = MapConfig(size_px=128, heads="each", within="softmax")
    return map_slide(darkness_encoder(), planted.path, out, config, batch=7, quiet=True)


def test_equals_the_blend_of_each_tiles_own_softmax(planted, made):
    darkness, side = token_darkness(planted.rgb, 16), 8
    line = np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2
    top, total = np.zeros(darkness.shape), np.zeros(darkness.shape)
    rows, columns = darkness.shape
    for i in sorted({*range(0, rows - side + 1, 4), rows - side}):
        for j in sorted({*range(0, columns - side + 1, 4), columns - side}):
            here = np.s_[i : i + side, j : j + side]
            e = np.exp(4 * darkness[here])
            top[here] += np.outer(line, line) * e / (1 + e.sum()) * side**2
            total[here] += np.outer(line, line)
    found = floats(made.path)[0]
    assert found.shape == (3, *darkness.shape)
    # Where a tile without tissue was left out, the average has fewer terms: look inside.
    inner = np.s_[8:-8, 8:-10]
    assert np.isfinite(found[:, *inner]).all()
    np.testing.assert_allclose(found[1][inner], (top / total)[inner], rtol=2e-3)
    np.testing.assert_allclose(found[2][inner], side**2 / (side**2 + 1), rtol=1e-5)
    np.testing.assert_allclose(found[0], found[1:].mean(0), rtol=1e-5)


def test_opens_in_openslide_with_all_levels_and_resolution(made):
    levels, summary = floats(made.path), made.summary
    for number, channel in enumerate(summary.channels):
        with openslide.OpenSlide(made.path / channel.file) as slide:
            assert slide.level_dimensions == tuple(level.size_px for level in summary.map.levels)
            assert len(slide.level_dimensions) == len(levels)
            for axis in "xy":
                assert float(slide.properties[f"openslide.mpp-{axis}"]) == pytest.approx(8.0)
            about = json.loads(slide.properties["tiff.ImageDescription"])
            assert about["map"]["offset_px"] == [0, 0] and about["between"] == "uniform"
            high = channel.range[1]
            for level, values in enumerate(levels):
                pixels = np.asarray(slide.read_region((0, 0), level, slide.level_dimensions[level]))
                there = np.isfinite(values[number])
                assert np.array_equal(pixels[..., 3] == 255, there) and set(np.unique(pixels[..., 3])) <= {
                    0,
                    255,
                }
                expected = np.clip(values[number][there] / high, 0, 1) * 255
                assert np.abs(pixels[..., 0][there] - expected).max() <= 0.51


def test_opens_in_tifffile_with_physical_size_channels_and_position(made):
    with tifffile.TiffFile(made.path / "attention.ome.tif") as file:
        assert file.is_ome and file.series[0].axes == "CYX" and file.series[0].dtype == np.float32
        assert [level.shape[1:][::-1] for level in file.series[0].levels] == [
            level.size_px for level in made.summary.map.levels
        ]
        image = tifffile.xml2dict(known(file.ome_metadata))["OME"]["Image"]
    pixels = image["Pixels"]
    assert pixels["PhysicalSizeX"] == pixels["PhysicalSizeY"] == 8.0
    assert [channel["Name"] for channel in pixels["Channel"]] == ["mean of heads", "head 0", "head 1"]
    assert all(plane["PositionX"] == plane["PositionY"] == 0 for plane in pixels["Plane"])
    assert json.loads(image["Description"])["slide"]["slide_id"] == "planted"


def test_a_finished_map_becomes_a_folder_for_qupath(planted, tmp_path):
    out, config = tmp_path / "map", MapConfig(size_px=128)
    plain = map_slide(darkness_encoder(), planted.path, out, config, quiet=True)
    assert not list(out.glob("*.groovy"))
    before = {file.name: file.read_bytes() for file in content(out) if file.is_file()}
    again = map_slide(darkness_encoder(), planted.path, out, config, to="qupath", quiet=True)
    assert again.summary == plain.summary
    script, page = ((out / name).read_text() for name in ("show-in-qupath.groovy", "README.md"))
    side, high = plain.summary.map.level0_px, plain.summary.channels[0].range[1]
    for said in (
        f"side = {side!r}",
        f"high = {high!r}",
        '"attention.ome.tif"',
        '"regions.geojson"',
        '"planted"',
    ):
        assert said in script
    assert "$" not in script and "show-in-qupath.groovy" in page and plain.summary.unit in page
    card = read_card(out)
    assert {"show-in-qupath.groovy", "README.md"} <= set(card.files) and card.finished
    after = {file.name: file.read_bytes() for file in content(out) if file.is_file()}
    assert {name for name in before if before[name] != after[name]} <= {"card.json"}


def test_the_dark_square_lies_where_it_was_planted(tmp_path):
    # 0.4 µm/px: a token of 16 px at 0.5 µm/px spans 20 px of the slide. Attention is compared with that of
    # tissue, since in tiles of mostly glass all tissue is dark.
    slide = write_tiff(tmp_path / "slide.tif", planted_rgb(), 0.4)
    encoder, config = darkness_encoder(sharpness=12.0), MapConfig(size_px=128)
    made = map_slide(encoder, slide, tmp_path / "map", config, quiet=True)
    s = made.summary.map.level0_px
    assert s == pytest.approx(20)
    x, y, side = SQUARE
    with openslide.OpenSlide(made.path / "attention.tif") as opened:
        for level, downsample in enumerate(opened.level_downsamples):
            pixels = np.asarray(opened.read_region((0, 0), level, opened.level_dimensions[level]))[..., 0]
            bright = np.argwhere(pixels > 0.6 * pixels.max())
            top_left, bottom_right = bright.min(0) * downsample * s, (bright.max(0) + 1) * downsample * s
            step = downsample * s
            assert np.abs(top_left - (y, x)).max() <= step
            assert np.abs(bottom_right - (y + side, x + side)).max() <= step
    (feature,) = json.loads((made.path / "regions.geojson").read_text())["features"][:1]
    corners = np.array(feature["geometry"]["coordinates"][0])
    assert np.abs(corners.min(0) - (x, y)).max() <= s
    assert np.abs(corners.max(0) - (x + side, y + side)).max() <= s


def test_on_a_slide_that_qupath_crops_the_map_begins_where_qupath_does(planted, made, tmp_path):
    """The slide's scan is the planted slide: so its map is the planted slide's, elsewhere."""
    corner = (211, 134)
    path = write_scn(tmp_path / "planted.scn", planted.rgb, (1500, 1200), corner)
    config = MapConfig(size_px=128, heads="each", within="softmax")
    moved = map_slide(darkness_encoder(), path, tmp_path / "map", config, quiet=True)
    found, expected = (floats(one.path)[0] for one in (moved, made))
    both = np.isfinite(found) & np.isfinite(expected)
    assert found.shape == expected.shape and both.mean() > 0.95 * np.isfinite(expected).mean()
    np.testing.assert_allclose(found[both], expected[both], rtol=1e-5)
    assert moved.summary.map.offset_px == corner and moved.summary.map.frame == "qupath"
    with tifffile.TiffFile(moved.path / "attention.ome.tif") as file:
        plane = tifffile.xml2dict(known(file.ome_metadata))["OME"]["Image"]["Pixels"]["Plane"][0]
    assert (plane["PositionX"], plane["PositionY"]) == (corner[0] / 2, corner[1] / 2)
    regions = json.loads((moved.path / "regions.geojson").read_text())
    assert regions["dirl"]["offset_px"] == list(corner)
    corners = np.array(regions["features"][0]["geometry"]["coordinates"][0])
    x, y, side = SQUARE
    assert np.abs(corners.min(0) - (x, y)).max() <= 16
    assert np.abs(corners.max(0) - (x + side, y + side)).max() <= 16
    tiles = pq.read_table(moved.path / "tiles.parquet").to_pydict()
    assert min(tiles["x"]) >= corner[0] and min(tiles["y"]) >= corner[1]
    # Weights by place, as a slide model gives them, are those of level 0.
    weights = {name: tiles[name] for name in ("x", "y")} | {"weight": [1.0] * len(tiles["x"])}
    pq.write_table(pa.table(weights), tmp_path / "weights.parquet")
    given = MapConfig(size_px=128, heads="each", within="softmax", between=str(tmp_path / "weights.parquet"))
    again = map_slide(darkness_encoder(), path, tmp_path / "given", given, quiet=True)
    np.testing.assert_allclose(floats(again.path)[0], found, rtol=1e-5)


@pytest.mark.parametrize(
    ("within", "between"),
    [("softmax", "uniform"), ("patches", "patch-mass"), ("tissue", "uniform"), ("rank", "uniform")],
)
def test_even_attention_gives_a_flat_map(planted, tmp_path, within, between):
    config = MapConfig(size_px=128, within=within, between=between, overlap=0.25)
    made = map_slide(darkness_encoder(sharpness=0.0), planted.path, tmp_path / "map", config, quiet=True)
    values = floats(made.path)[0][0]
    mass = 64 / 65
    expected = 0.5 if within == "rank" else mass if within == "softmax" else 1
    expected *= mass if between == "patch-mass" else 1
    np.testing.assert_allclose(values[np.isfinite(values)], expected, rtol=1e-4)
    assert made.summary.regions.count == 0


def test_the_map_keeps_to_tissue_and_says_what_it_is(planted, made):
    values, summary = floats(made.path)[0][0], made.summary
    assert np.isnan(values[:2]).all() and np.isnan(values[:, :2]).all()
    assert np.isfinite(values).sum() == summary.tissue.mapped == summary.tissue.tokens
    assert summary.encoder.to_json() == {
        "name": "darkness",
        "spec": "test:darkness",
        "digest": "0" * 16,
        "blocks": 1,
        "heads": 2,
        "query": "cls",
    }
    assert (summary.block, summary.within, summary.between) == (0, "softmax", "uniform")
    assert (summary.tiles.tokens, summary.tiles.overlap) == (8, 0.5)
    assert [channel.head for channel in summary.channels] == [None, 0, 1]
    files = {*summary.files.to_json().values(), *(channel.file for channel in summary.channels)}
    assert {path.name for path in content(made.path)} == {*files, "card.json", "summary.json"}
    assert json.loads((made.path / "summary.json").read_text()) == summary.to_json()
    card = read_card(made.path, "map")
    assert card.finished and card.counts == {"tiles": summary.tiles.count, "channels": 3}


def test_interrupted_work_goes_on_and_ends_the_same(planted, made, tmp_path):
    encoder, out = darkness_encoder(), tmp_path / "map"
    config = MapConfig(size_px=128, heads="each", within="softmax")
    model: Any = encoder.model
    model.fails_at = 4  # after one tile to try it and two batches
    with pytest.raises(KeyboardInterrupt):
        map_slide(encoder, planted.path, out, config, batch=7, quiet=True)
    assert not (out / "summary.json").exists() and not read_card(out).finished
    map_slide(encoder, planted.path, out, config, batch=7, quiet=True)
    batches = -(-made.summary.tiles.count // 7)
    assert model.calls == 4 + 1 + batches - 2
    for ours, whole in zip(floats(out), floats(made.path), strict=True):
        np.testing.assert_array_equal(ours, whole)
    assert (out / "attention.tif").read_bytes() == (made.path / "attention.tif").read_bytes()
    # Finished: nothing is done again.
    calls = model.calls
    map_slide(encoder, planted.path, out, config, quiet=True)
    assert model.calls <= calls + 1


def test_a_map_made_otherwise_is_kept_unless_told(planted, tmp_path):
    out = tmp_path / "map"
    map_slide(darkness_encoder(), planted.path, out, MapConfig(size_px=128, overlap=0), quiet=True)
    other = MapConfig(size_px=128, overlap=0, within="rank")
    with pytest.raises(StoreError, match=r"within tissue there, rank now.*--overwrite"):
        map_slide(darkness_encoder(), planted.path, out, other, quiet=True)
    again = map_slide(darkness_encoder(), planted.path, out, other, overwrite=True, quiet=True)
    assert again.summary.within == "rank"
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis").touch()
    with pytest.raises(StoreError, match="not made by dirl"):
        map_slide(darkness_encoder(), planted.path, tmp_path / "theirs", other, overwrite=True, quiet=True)


def test_weights_of_a_slide_model_put_tiles_on_one_scale(planted, made, tmp_path):
    # The table that a map leaves is one that it takes; weights fall from left to right.
    table = pq.read_table(made.path / "tiles.parquet")
    falling = pa.array(1 + table["x"].to_numpy().max() - table["x"].to_numpy())
    table = table.set_column(table.column_names.index("weight"), "weight", falling)
    pyarrow.csv.write_csv(table, tmp_path / "weights.csv")
    config = MapConfig(size_px=128, within="softmax", between=str(tmp_path / "weights.csv"))
    weighed = map_slide(darkness_encoder(sharpness=0.0), planted.path, tmp_path / "map", config, quiet=True)
    assert weighed.summary.between == "weights.csv" and "weight" in weighed.summary.unit
    assert "between" in read_card(weighed.path).inputs
    values = floats(weighed.path)[0][0][20]
    assert (np.diff(values[np.isfinite(values)]) <= 1e-6).all() and values[6] > 2 * values[45]
    pyarrow.csv.write_csv(table.filter(table["x"].to_numpy() < 300), tmp_path / "short.csv")
    config = MapConfig(size_px=128, between=str(tmp_path / "short.csv"))
    with pytest.raises(ConfigError, match=r"short.csv: misses \d+ of \d+ tiles"):
        map_slide(darkness_encoder(), planted.path, tmp_path / "short", config, quiet=True)
    assert not (tmp_path / "short").exists()


def test_bad_input_is_refused_before_anything_is_written(planted, tmp_path):
    def attempt(kind, message, slide=planted.path, encoder=None, **settings):
        config = MapConfig(**({"size_px": 128} | settings))
        with pytest.raises(kind, match=message):
            map_slide(encoder or darkness_encoder(), slide, tmp_path / "map", config, quiet=True)
        assert not (tmp_path / "map").exists()

    glass = np.full((600, 600, 3), 243, np.uint8)
    attempt(SlideError, "no tissue found", write_tiff(tmp_path / "glass.tif", glass, 0.5))
    attempt(SlideError, "gives no resolution.*--mpp-override", write_tiff(tmp_path / "a.tif", glass, None))
    attempt(SlideError, "no such file", tmp_path / "nowhere.svs")
    attempt(SlideError, "has 0.5 µm/px, but 0.25 was requested.*--allow-upsample", mpp=0.25)
    attempt(SlideError, "smaller than one tile", size_px=1024)
    attempt(EncoderError, r"tiles of 100 px are no whole number.*--size 96", size_px=100)
    attempt(EncoderError, "no such encoder", encoder="nonsense")
    attempt(EncoderError, "not a vision transformer", encoder="timm:resnet18,weights=random")
    attempt(ConfigError, r"--block 3: darkness has 1 blocks — choose 0 to 0", block=3)
    attempt(ConfigError, "no such file.*name uniform, patch-mass", between="nowhere.csv")


def test_attention_that_is_not_finite_is_an_error(planted, tmp_path):
    encoder = darkness_encoder(sharpness=float("nan"))
    with pytest.raises(EncoderError, match="not finite"):
        map_slide(encoder, planted.path, tmp_path / "map", MapConfig(size_px=128), quiet=True)
    assert not (tmp_path / "map" / "summary.json").exists()


def test_tiles_are_cut_to_whole_patches_unless_a_size_is_asked_for(planted, tmp_path):
    encoder = replace(darkness_encoder(), patch_px=24)
    with pytest.raises(EncoderError, match="13 × 13 tokens on a tile, not 9"):
        map_slide(encoder, planted.path, tmp_path / "map", quiet=True)
    made = map_slide(darkness_encoder(), planted.path, tmp_path / "map", quiet=True)
    assert made.summary.tiles.size_px == read_card(made.path).config["size_px"] == 224


def test_a_map_of_an_encoder_without_a_class_token_says_whose_attention_it_is(planted, tmp_path):
    small = "weights=random,embed_dim=24,depth=1,num_heads=2,img_size=64"
    spec = f"timm:vit_relpos_base_patch16_224,{small}"
    with pytest.warns(DirlWarning, match="weights are random: the map shows nothing that was learned"):
        summary = map_slide(spec, planted.path, tmp_path / "map", MapConfig(size_px=64), quiet=True).summary
    assert (summary.encoder.query, summary.encoder.blocks) == ("mean patch", 1)


def test_a_fixed_size_encoder_sees_resized_tiles(planted, tmp_path):
    encoder = replace(darkness_encoder(), input_px=64)
    made = map_slide(encoder, planted.path, tmp_path / "map", MapConfig(size_px=160), quiet=True)
    assert made.summary.tiles.tokens == 4
    assert made.summary.map.mpp == pytest.approx(20) and made.summary.map.level0_px == 40


@pytest.mark.parametrize("name", ["CMU-1-Small-Region.svs", "dicom-cmu-1-small-region"])
def test_aligned_on_a_real_slide_to_within_a_token(data_dir, tmp_path, name):
    made = map_slide(
        darkness_encoder(),
        data_dir / "slides" / name,
        tmp_path / "map",
        MapConfig(within="rank", overlap=0.25),
        quiet=True,
    )
    values = floats(made.path)[0][0]
    rows, columns = values.shape
    slide = open_slide(data_dir / "slides" / name)
    darkness = token_darkness(read_box(slide, 0, 0, 16 * columns, 16 * rows, 0.5), 16)
    slide.close()

    def agreement(dy, dx):
        inner = np.s_[2:-2, 2:-2]
        moved = np.roll(darkness, (dy, dx), (0, 1))[inner]
        there = np.isfinite(values[inner])
        return np.corrcoef(moved[there], values[inner][there])[0, 1]

    found = {(dy, dx): agreement(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)}
    assert max(found, key=found.__getitem__) == (0, 0) and found[0, 0] > 0.6
    assert sorted(found.values())[-2] < found[0, 0] - 0.05
    with openslide.OpenSlide(made.path / "attention.tif") as opened:
        assert opened.level_dimensions == ((138, 185), (69, 93), (35, 47))


def test_the_same_map_has_the_same_bytes_and_names_no_machine(made, planted, tmp_path):
    """Made again from a copy elsewhere: nothing in the TIFFs tells when, where or on which machine."""
    slide = tmp_path / "elsewhere" / planted.path.name
    slide.parent.mkdir()
    slide.write_bytes(planted.path.read_bytes())
    config = MapConfig(size_px=128, heads="each", within="softmax")
    again = map_slide(darkness_encoder(), slide, tmp_path / "again", config, batch=7, quiet=True)
    for file in sorted(made.path.glob("*.tif")):
        assert (again.path / file.name).read_bytes() == file.read_bytes(), file.name
        assert str(planted.path.parent).encode() not in file.read_bytes()
    with tifffile.TiffFile(made.path / "attention.ome.tif") as opened:
        named = uuid.UUID(tifffile.xml2dict(known(opened.ome_metadata))["OME"]["UUID"])
    assert named.version == 5  # of content; version 1 holds the time and the network card


def test_another_map_has_another_identifier():
    values = np.zeros((1, 2, 2), np.float32)
    same = _identifier(values, ["mean of heads"], {"block": 1})
    assert same == _identifier(values.copy(), ["mean of heads"], {"block": 1})
    assert same != _identifier(values + 1, ["mean of heads"], {"block": 1})
    assert same != _identifier(values, ["mean of heads"], {"block": 2})
