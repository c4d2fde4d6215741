"""A store that is overwritten names the cells that are lost; a device that does not exist is refused."""

from pathlib import Path

import pytest

from dirl import synthetic
from dirl.cells.run import cells
from dirl.config import CellsConfig, TileConfig
from dirl.core.errors import ConfigError, DirlWarning
from dirl.store.build import tile


@pytest.fixture
def store(tmp_path: Path) -> Path:
    synthetic.write(tmp_path / "a.tif", seed=1, size_px=(256, 256))
    tile([tmp_path / "a.tif"], tmp_path / "store", TileConfig(size_px=64, min_tissue=0.1), quiet=True)
    return tmp_path / "store"


def test_overwriting_a_store_names_the_cells_that_are_lost(store: Path) -> None:
    cells(store, CellsConfig(), quiet=True)
    with pytest.warns(DirlWarning, match=r"removes all slides of .*store and their cells \(hematoxylin\)"):
        tile([store.parent / "a.tif"], store, TileConfig(size_px=32), overwrite=True, quiet=True)


@pytest.mark.parametrize("device", ["gpu", "nonsense"])
def test_a_device_that_does_not_exist_is_refused_even_if_no_network_runs(store: Path, device: str) -> None:
    with pytest.raises(ConfigError, match=f"device {device}: no such device here"):
        cells(store, CellsConfig(), device=device, quiet=True)
