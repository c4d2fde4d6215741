"""What InstanSeg writes: ``NAME_instanseg_prediction`` as TIFF of one or two planes, and as GeoJSON."""

import json

import numpy as np
import pytest
import tifffile

pytest.importorskip("shapely")

from dirl.cells.files.geojson import GeoJSON
from dirl.cells.files.label_maps import read_map
from dirl.cells.run import cells
from dirl.cells.source import PixelGrid
from dirl.config import CellsConfig, TileConfig
from dirl.core.errors import ConfigError
from dirl.store.build import tile
from dirl.store.dataset import TileStore
from dirl.synthetic import write

END = "_instanseg_prediction"


def square(x, y, side, named):
    ring = [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    properties = {"object_type": "detection", "measurements": [{"name": "Label", "value": 1}]}
    return {"type": "Feature", "geometry": geometry, "properties": properties | {"classification": named}}


@pytest.mark.parametrize(("nucleus", "cell"), [("Nucleus", "Cell"), ("Nuclei", "Cells")])
def test_cells_around_nuclei_are_left_out(tmp_path, nucleus, cell):
    pairs = [(square(x + 5, 5, 10, nucleus), square(x, 0, 20, cell)) for x in (10, 40, 70)]
    lines = ",\n".join(json.dumps(one) for pair in pairs for one in pair)
    file = tmp_path / f"a{END}.geojson"
    file.write_text(f"[\n{lines},\n]")  # with its last comma
    found = GeoJSON(str(tmp_path)).read(file, (100, 100), 0.5)
    assert found.area_px.tolist() == [100, 100, 100] and found.x.tolist() == [20, 50, 80]
    assert (found.cut(PixelGrid(0, 0, 100)) > 0).sum() == 300
    assert found.notes == {"objects that are not nuclei": 3}


def test_of_two_planes_the_first_holds_the_nuclei(tmp_path):
    nuclei = np.kron(np.arange(1, 10).reshape(3, 3), np.pad(np.ones((4, 4), np.int32), 3))
    both = np.stack([nuclei, np.kron(np.arange(1, 10).reshape(3, 3), np.ones((10, 10)))]).astype(np.int32)
    for name, planes in ((f"a{END}.tiff", both), (f"b{END}.tiff", nuclei.astype(np.int32))):
        tifffile.imwrite(tmp_path / name, planes)
        assert np.array_equal(read_map(tmp_path / name)[0], nuclei)
    tifffile.imwrite(tmp_path / "c.tiff", both)
    with pytest.raises(ConfigError, match=r"int32 of shape \(2, 30, 30\).*labels\[0\]"):
        read_map(tmp_path / "c.tiff")


def test_files_are_found_by_their_names(tmp_path):
    labels = write(tmp_path / "slides" / "one.tiff", 3, (384, 384)).labels.astype(np.int32)
    tile([tmp_path / "slides"], tmp_path / "store", TileConfig(size_px=96, min_tissue=0.1), quiet=True)
    (tmp_path / "out").mkdir()
    tifffile.imwrite(tmp_path / "out" / f"one{END}.tiff", labels)
    found = cells(tmp_path / "store", CellsConfig(segmenter=f"labels:{tmp_path / 'out'}"), quiet=True)
    tiles = TileStore.open(tmp_path / "store")
    x, y = (tiles.index[name][0].as_py() for name in ("x", "y"))
    assert np.array_equal(found.labels(0), labels[y : y + 96, x : x + 96])
