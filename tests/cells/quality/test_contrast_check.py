"""Nuclei that lie on no nuclei are warned of, whatever file they are read from."""

import json

import numpy as np
import pytest
import shapely
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from dirl import synthetic
from dirl.cells.quality.checks import FEW_NUCLEI_PX, NuclearContrast
from dirl.cells.report.run import cells_report
from dirl.cells.run import cells
from dirl.config import CellsConfig, TileConfig
from dirl.core.files import read_json
from dirl.store.build import tile

SIDE = 512


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("contrast")
    slide = synthetic.write(folder / "slide.tif", seed=8, size_px=(SIDE, SIDE))
    tile([folder / "slide.tif"], folder / "store", TileConfig(size_px=128, min_tissue=0.05), quiet=True)
    return folder / "store", slide.labels.astype(np.int32)


def outlines(labels, scale=1.0):
    from dirl.cells.geometry.rasterize import mask_polygon

    whole = [mask_polygon(labels == i, 0, 0) for i in np.unique(labels[labels > 0])]
    shapes = [shapely.transform(one, lambda at: at * scale) for one in whole]
    return [{"type": "Feature", "geometry": json.loads(shapely.to_geojson(one))} for one in shapes]


WRONG = {
    "mirrored": lambda labels: labels[:, ::-1],
    "transposed": lambda labels: labels.T,
    "shifted": lambda labels: np.roll(labels, (60, 90), (0, 1)),
}


@pytest.mark.parametrize("wrong", [None, *WRONG])
def test_label_images_in_the_wrong_place_are_warned_of(drawn, tmp_path, wrong):
    store, labels = drawn
    tifffile.imwrite(tmp_path / "slide.tif", np.ascontiguousarray(WRONG[wrong](labels) if wrong else labels))
    config = CellsConfig(segmenter=f"labels:{tmp_path / 'slide.tif'}", name=str(wrong))
    if wrong is None:
        assert "misplaced" not in cells(store, config, quiet=True).card.counts
        return
    with pytest.warns(UserWarning, match="slide: its nuclei are hardly darker than the other tissue"):
        found = cells(store, config, quiet=True)
    assert found.card.counts["misplaced"].keys() == {"slide"}
    assert "misplaced" in read_json(found.path / "summary.json")["slides"]["slide"]


def test_coordinates_of_another_resolution_are_warned_of(drawn, tmp_path):
    """A quarter of the area is still a nucleus's."""
    store, labels = drawn
    for scale in (1.0, 0.6):
        file = tmp_path / f"{scale}.geojson"
        file.write_text(json.dumps(outlines(labels, scale)))
        name = f"at{scale}"
        config = CellsConfig(segmenter=f"geojson:{file}", name=name)
        if scale == 1:
            cells(store, config, quiet=True)
            continue
        with pytest.warns(UserWarning, match="coordinates may be of another resolution"):
            cells(store, config, quiet=True)
        cells_report(store, tmp_path / "report", cells=[name], tiles=1, quiet=True)
        assert "hardly darker" in (tmp_path / "report" / "report.html").read_text()


@given(nuclei=st.integers(10, 240), others=st.integers(10, 240), side=st.sampled_from([32, 128]))
@settings(max_examples=30)
def test_dark_nuclei_and_few_pixels_are_not_doubted(nuclei, others, side):
    labels = np.zeros((side, side), np.int32)
    labels[: side // 2] = 1
    rgb = np.full((side, side, 3), others, np.uint8)
    rgb[: side // 2] = nuclei
    contrast = NuclearContrast()
    contrast.add(rgb, labels, np.ones((side, side), bool))
    density = [-np.log((value + 1) / 256) for value in (nuclei, others)]
    expected = side**2 / 2 >= FEW_NUCLEI_PX and density[0] < 1.2 * density[1] * (1 - 1e-6)
    if abs(density[0] / density[1] - 1.2) > 1e-3:
        assert (contrast.doubt() is not None) == expected
