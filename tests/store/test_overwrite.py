"""Overwriting a store replaces what is named, and names what is lost; a failed stage leaves nothing."""

import warnings
from pathlib import Path

import pytest

from dirl import synthetic
from dirl.cells.run import cells
from dirl.config import CellsConfig, TileConfig
from dirl.core.card import read_card
from dirl.core.errors import ConfigError, DirlError, DirlWarning, SlideError, StoreError
from dirl.store.build import tile

CONFIG = TileConfig(size_px=64, min_tissue=0.1)


def files_of(store: Path, slide: str) -> dict[Path, bytes]:
    """Files of a slide and of its cells; pictures excepted."""
    files = [*store.rglob(f"{slide}.*")]
    return {file.relative_to(store): file.read_bytes() for file in files if file.parent.name != "pictures"}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    synthetic.write(tmp_path / "a.tif", seed=1, size_px=(256, 256))
    tile([tmp_path / "a.tif"], tmp_path / "store", CONFIG, quiet=True)
    return tmp_path / "store"


def test_overwriting_a_store_names_the_cells_that_are_lost(store: Path) -> None:
    cells(store, CellsConfig(), quiet=True)
    with pytest.warns(DirlWarning, match=r"removes all slides of .*store and their cells \(hematoxylin\)"):
        tile([store.parent / "a.tif"], store, TileConfig(size_px=32), overwrite=True, quiet=True)


@pytest.mark.parametrize("device", ["gpu", "nonsense"])
def test_a_device_that_does_not_exist_is_refused_even_if_no_network_runs(store: Path, device: str) -> None:
    with pytest.raises(ConfigError, match=f"device {device}: no such device here"):
        cells(store, CellsConfig(), device=device, quiet=True)


def test_overwriting_replaces_only_the_slides_that_are_named(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        synthetic.write(tmp_path / f"{name}.tif", seed=seed, size_px=(256, 256))
    out, config = tmp_path / "store", CONFIG
    tile([tmp_path / "a.tif", tmp_path / "b.tif"], out, config, quiet=True)
    cells(out, CellsConfig(), quiet=True)
    kept = files_of(out, "b")
    synthetic.write(tmp_path / "a.tif", seed=3, size_px=(256, 256))  # another version of the slide
    with pytest.raises(StoreError, match=r"another file or version.*--overwrite"):
        tile([tmp_path / "a.tif"], out, config, quiet=True)
    with pytest.warns(DirlWarning, match=r"tiles again: a\. .*cells \(hematoxylin\)"):
        store = tile([tmp_path / "a.tif"], out, config, overwrite=True, quiet=True)
    assert set(store.slides) == {"a", "b"}
    assert files_of(out, "b") == kept
    assert not list((out / "cells" / "hematoxylin").rglob("a.*"))
    cells(out, CellsConfig(), quiet=True)
    tile([tmp_path / "a.tif", tmp_path / "b.tif"], tmp_path / "new", config, quiet=True)
    cells(tmp_path / "new", CellsConfig(), quiet=True)
    for name in ("a", "b"):
        assert files_of(out, name) == files_of(tmp_path / "new", name)


def test_cells_stay_where_overwriting_changes_no_tile(store: Path) -> None:
    cells(store, CellsConfig(), quiet=True)
    before = files_of(store, "a")
    with pytest.warns(DirlWarning, match="Where the tiles change"):
        tile([store.parent / "a.tif"], store, CONFIG, overwrite=True, quiet=True)
    assert files_of(store, "a") == before
    assert read_card(store / "cells" / "hematoxylin").finished


def test_a_slide_that_the_settings_would_lose_is_named_and_nothing_is_removed(store: Path) -> None:
    synthetic.write(store.parent / "b.tif", seed=2, size_px=(256, 256))
    tile([store.parent / "b.tif"], store, CONFIG, quiet=True)
    before = files_of(store, "a") | files_of(store, "b")
    with pytest.raises(StoreError, match=r"does not name all of its slides: b would be lost"):
        tile([store.parent / "a.tif"], store, TileConfig(size_px=32), overwrite=True, quiet=True)
    assert files_of(store, "a") | files_of(store, "b") == before


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(TileConfig(size_px=64, min_tissue=0.1, mpp=0.1), id="finer than the slide"),
        pytest.param(TileConfig(size_px=64, min_tissue=0.1), id="a damaged slide"),
    ],
)
def test_nothing_is_removed_if_a_slide_cannot_be_tiled_again(store: Path, config: TileConfig) -> None:
    cells(store, CellsConfig(), quiet=True)
    before = files_of(store, "a")
    if config == CONFIG:
        (store.parent / "a.tif").write_bytes(b"nonsense")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DirlWarning)
        with pytest.raises(SlideError):
            tile([store.parent / "a.tif"], store, config, overwrite=True, quiet=True)
    assert files_of(store, "a") == before


def test_a_stage_that_fails_before_its_first_result_leaves_no_folder(store: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.svs").write_bytes(b"nonsense")
    with pytest.raises(SlideError):
        tile([tmp_path / "bad.svs"], tmp_path / "deep" / "new", CONFIG, quiet=True)
    assert not (tmp_path / "deep").exists()
    (tmp_path / "outlines").mkdir()
    (tmp_path / "outlines" / "a.geojson").write_text("[")
    with pytest.raises(DirlError):
        cells(store, CellsConfig(segmenter=f"geojson:{tmp_path / 'outlines'}"), quiet=True)
    assert not (store / "cells").exists()
