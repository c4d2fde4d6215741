"""JSON of HoVer-Net and CellViT, in the layouts that they publish, of a synthetic slide's known nuclei."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from skimage.measure import label, regionprops

pytest.importorskip("shapely")

from dirl.cells.files.geojson import GeoJSON
from dirl.cells.files.tool_json import CellViTJSON, HoVerNetJSON
from dirl.cells.registry import cells_name, load_segmenter
from dirl.cells.run import cells
from dirl.cells.source import PixelGrid
from dirl.config import CellsConfig, TileConfig
from dirl.core.errors import ConfigError, DirlError, PartlyFailedError
from dirl.core.files import read_json
from dirl.store.build import tile
from dirl.store.dataset import TileStore
from dirl.synthetic import draw, write

SIDE = 512
# Clockwise from the right, y downwards.
STEPS = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))
NAMES = {1: "neopla", 2: "inflam", 3: "connec"}


def trace(mask):
    """Contour of a mask (h, w) of one part: x, y of its outermost pixels, as OpenCV's findContours has it."""
    mask = np.pad(mask, 1)
    at, way = tuple(np.argwhere(mask)[0].tolist()), 0
    points: list[tuple[int, ...]] = []
    first: tuple[tuple[int, ...], int] | None = None
    while True:
        around = [(way + 6 + k) % 8 for k in range(8)]
        way = next(w for w in around if mask[at[0] + STEPS[w][0], at[1] + STEPS[w][1]])
        if (at, way) == first:
            return [[x - 1, y - 1] for y, x in points]
        first = first or (at, way)
        points.append(at)
        at = at[0] + STEPS[way][0], at[1] + STEPS[way][1]


def nuclei_of(seed):
    return sound(draw(seed, (384, 384)).labels)


def sound(drawn):
    """Nuclei of one part without holes, wider than two pixels, and numbers that leave gaps."""
    parts = label(drawn, connectivity=2)
    labels = np.zeros_like(parts, np.int32)
    for one in regionprops(parts):
        if one.area >= 12 and min(one.image.shape) >= 3:
            labels[one.slice][one.image_filled & (labels[one.slice] == 0)] = 3 * one.label
    for one in regionprops(labels):
        if ndimage.label(one.image, np.ones((3, 3)))[1] > 1:
            labels[labels == one.label] = 0
    return labels


@pytest.fixture(scope="module")
def truth():
    return sound(draw(4, (1024, 1024), 0.25).labels[256:-256, 256:-256])


def entries(labels):
    for one in regionprops(labels):
        top, left, bottom, right = one.bbox
        contour = [[x + left, y + top] for x, y in trace(one.image)]
        yield (
            one.label,
            {
                "bbox": [[top, left], [bottom, right]],
                "centroid": [one.centroid[1], one.centroid[0]],
                "contour": contour,
                "type_prob": 0.9,
                "type": kind(one.label),
            },
        )


def kind(number):
    return number // 3 % 3 + 1


def hovernet(labels, mag):
    return {"mag": mag, "nuc": {str(number): one for number, one in entries(labels)}}


def cellvit(labels, *, base=40.0, patch=256, overlap=64, **more):
    """As CellViT's inference writes its cells.json, which keeps places of patches beside those of cells."""
    cells = []
    for _, one in entries(labels):
        row, column = (int((side + overlap / 2) // (patch - overlap)) for side in one["centroid"][::-1])
        offset = [int(place * patch - (place + 0.5) * overlap) for place in (row, column)]
        cells.append(one | {"patch_coordinates": [row, column], "cell_status": 0, "offset_global": offset})
    meta = {"base_magnification": base, "magnification": base, "downsampling": 1, "patch_size": patch}
    meta |= {"patch_overlap": overlap, "base_mpp": 10 / base, "target_patch_mpp": 10 / base, "level": 0}
    types = {"Background": 0, "Neoplastic": 1, "Inflammatory": 2, "Connective": 3, "Dead": 4, "Epithelial": 5}
    return {"wsi_metadata": meta | more, "processed_patches": ["0_0"], "type_map": types, "cells": cells}


def saved(folder, content, name="slide.json"):
    file = Path(folder) / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return file


def check(found, labels, scale, names=NAMES):
    """Ids, places, areas, classes and pixels are those of labels that have so many level-0 pixels a pixel."""
    regions = regionprops(labels)
    numbers = [one.label for one in regions]
    assert sorted(found.ids.tolist()) == numbers
    order = np.argsort(found.ids)
    places = np.array([(one.centroid[1] + 0.5, one.centroid[0] + 0.5) for one in regions]) * scale
    assert np.abs(np.stack([found.x, found.y], 1)[order] - places).max() < 0.4 * scale
    areas = np.array([one.area for one in regions]) * scale**2
    assert np.abs(found.area_px[order] / areas - 1).max() < 0.1
    assert abs(found.area_px.sum() / areas.sum() - 1) < 0.03
    assert [found.classes[i] for i in order] == [names[kind(number)] for number in numbers]
    same(found, labels, scale)


def same(found, labels, scale=1.0):
    """Pixels are the same but for threads of one pixel's width, which are lost."""
    cut = found.cut(PixelGrid(0, 0, SIDE, scale))
    assert ((cut != labels) & (cut > 0)).sum() == 0
    assert (cut != labels).sum() <= 5


@pytest.mark.parametrize(
    ("mag", "mpp", "scale"), [(40, 0.5, 0.5), (20, 0.499, 1), (20, 0.2265, 2), (40, 0.23, 1)]
)
def test_hovernet_of_a_slide_is_brought_to_level_0_by_its_magnification(truth, tmp_path, mag, mpp, scale):
    file = saved(tmp_path / "json", hovernet(truth, mag))
    saved(tmp_path, {str(k): [name, [255, 0, 0]] for k, name in NAMES.items()}, "type_info.json")
    size = (round(SIDE * scale),) * 2
    for source in (HoVerNetJSON(str(file)), GeoJSON(str(file))):
        found = source.read(file, size, mpp)
        check(found, truth, scale)
        brought = {f"nuclei scaled to level 0 by a factor of {scale:g}": len(found.ids)} if scale != 1 else {}
        assert found.notes == brought


@pytest.mark.parametrize("mag", ["40", "40x", 40.0])
def test_a_magnification_may_be_text_and_contours_packed_as_opencv_has_them(truth, tmp_path, mag):
    content = hovernet(truth, mag)
    for one in content["nuc"].values():
        one["contour"] = [[point] for point in one["contour"]]
    file = saved(tmp_path, content)
    found = HoVerNetJSON(str(file)).read(file, (SIDE // 2, SIDE // 2), 0.5)
    check(found, truth, 0.5, {k: f"type {k}" for k in NAMES})
    assert found.notes == {"nuclei scaled to level 0 by a factor of 0.5": len(found.ids)}


def test_hovernet_of_an_image_has_pixels_of_the_image(truth, tmp_path):
    found = HoVerNetJSON(str(tmp_path)).read(saved(tmp_path, hovernet(truth, None)), (SIDE, SIDE), 0.5)
    check(found, truth, 1, {k: f"type {k}" for k in NAMES})
    assert list(found.notes) == ["nuclei of a file without a magnification, read as pixels of the image"]


def test_a_stated_resolution_goes_before_what_the_file_says(truth, tmp_path):
    file = saved(tmp_path, hovernet(truth, 40))
    found = HoVerNetJSON(str(tmp_path), mpp=1.0).read(file, (2 * SIDE, 2 * SIDE), 0.5)
    check(found, truth, 2, {k: f"type {k}" for k in NAMES})
    with pytest.raises(ConfigError, match="mpp -1 is not a number above 0"):
        HoVerNetJSON(str(tmp_path), mpp=-1)


def test_a_file_made_at_another_objective_than_the_resolution_tells_fits_the_slide(truth, tmp_path):
    """MRXS at 0.345 µm/px may state an objective of 20, where 40 is nearer: only so all nuclei lie on it."""
    file = saved(tmp_path, hovernet(truth, 40))
    found = HoVerNetJSON(str(tmp_path)).read(file, (SIDE // 2, SIDE // 2), 0.345)
    check(found, truth, 0.5, {k: f"type {k}" for k in NAMES})


PANNUKE = {1: "Neoplastic", 2: "Inflammatory", 3: "Connective"}


def test_cellvit_at_level_0(truth, tmp_path):
    file = saved(tmp_path, cellvit(truth))
    numbers = np.unique(truth)[1:]
    by_place = np.searchsorted(numbers, truth) + (truth > 0)
    for source in (CellViTJSON(str(file)), GeoJSON(str(file))):
        found = source.read(file, (SIDE, SIDE), 0.25)
        assert found.ids.tolist() == list(range(1, len(numbers) + 1))
        same(found, by_place)
        assert found.classes == [PANNUKE[kind(number)] for number in numbers.tolist()]
        assert not found.notes


@pytest.mark.parametrize("offsets", [True, False])
@pytest.mark.parametrize(("base", "factor"), [(40, 2), (20, 0.5)])
def test_cellvit_at_another_resolution(truth, tmp_path, base, factor, offsets):
    content = cellvit(truth, base=base, magnification=base / factor)
    if factor == 2:  # the patches' places are multiplied, and places in them are not
        content["wsi_metadata"]["downsampling"] = 2
        for cell in content["cells"]:
            places = np.array(cell["patch_coordinates"]) * 256
            cell["contour"] = (np.array(cell["contour"]) + places[::-1] * offsets).tolist()
            cell["offset_global"] = (np.array(cell["offset_global"]) + places).tolist()
    if not offsets:
        for cell in content["cells"]:
            del cell["offset_global"]
    found = CellViTJSON(str(tmp_path)).read(saved(tmp_path, content), (round(SIDE * factor),) * 2, 10 / base)
    numbers = np.unique(truth)[1:]
    by_place = np.searchsorted(numbers, truth) + (truth > 0)
    same(found, by_place, factor)


def test_cellvit_plus_plus_brings_contours_back_itself(truth, tmp_path):
    content = cellvit(truth, base=20, magnification=40)
    del content["processed_patches"]
    content["type_map"] = {str(k): name for k, name in PANNUKE.items()}
    for cell in content["cells"]:
        cell["contour"] = [[round(x / 2), round(y / 2)] for x, y in cell["contour"]]
    found = CellViTJSON(str(tmp_path)).read(saved(tmp_path, content), (SIDE // 2, SIDE // 2), 0.5)
    regions = regionprops(truth)
    assert np.abs(found.x - [(one.centroid[1] + 0.5) / 2 for one in regions]).max() < 0.6
    assert abs(found.area_px.sum() / ((truth > 0).sum() / 4) - 1) < 0.05
    assert set(found.classes) == set(PANNUKE.values())


def test_boxes_that_cellvit_plus_plus_brought_back_and_places_that_say_nothing(truth, tmp_path):
    content = cellvit(truth, base=20, magnification=40)
    for cell in content["cells"]:
        del cell["contour"], cell["offset_global"]
        cell["bbox"] = (np.array(cell["bbox"]) / 2).tolist()
    found = CellViTJSON(str(tmp_path)).read(saved(tmp_path, content), (SIDE // 2, SIDE // 2), 0.5)
    middles = [(one.bbox[1] + one.bbox[3]) / 4 for one in regionprops(truth)]
    assert np.allclose(found.x, middles)
    content = cellvit(truth, base=20, magnification=40)
    for cell in content["cells"]:
        cell |= {"offset_global": [9000, 9000], "patch_coordinates": [0, 0]}
    found = CellViTJSON(str(tmp_path)).read(saved(tmp_path, content), (SIDE // 2, SIDE // 2), 0.5)
    assert np.abs(found.x - [(one.centroid[1] + 0.5) / 2 for one in regionprops(truth)]).max() < 0.3


def test_cells_without_contours_are_ellipses_and_told(truth, tmp_path):
    content = cellvit(truth)
    for cell in content["cells"]:
        del cell["contour"], cell["offset_global"], cell["patch_coordinates"]
    found = CellViTJSON(str(tmp_path)).read(saved(tmp_path, content), (SIDE, SIDE), 0.25)
    boxes = [one.bbox for one in regionprops(truth)]
    assert np.allclose(found.x, [(left + right) / 2 for _, left, _, right in boxes])
    areas = [np.pi / 4 * (bottom - top) * (right - left) for top, left, bottom, right in boxes]
    assert np.allclose(found.area_px, areas)
    assert found.notes == {"nuclei without a contour, drawn as the ellipse of their box": len(boxes)}


def test_classes_by_number_by_name_and_without(tmp_path):
    square = [[5, 5], [14, 5], [14, 14], [5, 14]]
    nuclei = [
        {"contour": [[x + 20 * k, y] for x, y in square], "type": t} for k, t in enumerate((0, 2, 7, None))
    ]
    found = GeoJSON(str(tmp_path)).read(
        saved(tmp_path, {"mag": None, "nuc": dict(enumerate(nuclei))}), (99, 99), 0.5
    )
    assert found.classes == [None, "type 2", "type 7", None]
    assert found.area_px.tolist() == [100] * 4 and found.x.tolist() == [10, 30, 50, 70]
    assert sorted(found.ids.tolist()) == [1, 2, 3, 4]
    content: dict[str, Any] = {"wsi_metadata": {}, "cells": nuclei}
    found = GeoJSON(str(tmp_path)).read(saved(tmp_path, content), (99, 99), 0.5)
    assert found.classes == ["type 0", "Inflammatory", "type 7", None]
    assert any("without a magnification" in note for note in found.notes)
    content["type_map"] = {"0": "Other", "2": "Tumour"}
    found = GeoJSON(str(tmp_path)).read(saved(tmp_path, content), (99, 99), 0.5)
    assert found.classes == ["Other", "Tumour", "type 7", None]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**40) | st.floats() | st.text(max_size=3),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=2), inside, max_size=3),
    max_leaves=8,
)


@pytest.mark.filterwarnings("ignore:.*is unusual for nuclei")
@given(data=st.data())
def test_whatever_stands_in_a_field_is_our_error_or_does_no_harm(data, tmp_path_factory):
    square = [[5, 5], [14, 5], [14, 14], [5, 14]]
    good = {"contour": square, "bbox": [[5, 5], [15, 15]], "type": 1, "offset_global": [0, 0]}
    good["patch_coordinates"] = [0, 0]
    odd = dict(good)
    odd[data.draw(st.sampled_from(sorted(good)))] = data.draw(JSON)
    meta = {
        "base_magnification": 40,
        "magnification": 20,
        "downsampling": 2,
        "patch_size": 64,
        "patch_overlap": 0,
    }
    meta[data.draw(st.sampled_from(sorted(meta)))] = data.draw(JSON)
    cells_ = [good, odd, data.draw(JSON)]
    content = data.draw(
        st.sampled_from(
            [
                {"mag": data.draw(JSON), "nuc": {"1": good, "x": odd, "3": cells_[2]}},
                {"wsi_metadata": meta, "type_map": data.draw(JSON), "cells": cells_},
                {"wsi_metadata": data.draw(JSON), "cells": data.draw(JSON)},
            ]
        )
    )
    folder = tmp_path_factory.mktemp("odd")
    file = saved(folder, content)
    try:
        found = GeoJSON(str(folder)).read(file, (64, 64), 0.5)
    except DirlError as error:
        assert str(file) in str(error)
    else:
        assert len(set(found.ids.tolist())) == len(found.ids) == len(found.classes)
        assert np.isfinite(found.area_px).all()


@pytest.mark.parametrize("kind", [HoVerNetJSON, CellViTJSON])
def test_other_files_are_refused(tmp_path, kind):
    with pytest.raises(ConfigError, match=r"which (HoVer-Net|CellViT)'s files have"):
        kind(str(tmp_path)).read(saved(tmp_path, {"type": "FeatureCollection", "features": []}), (9, 9), 0.5)
    broken = tmp_path / "broken.json"
    broken.write_text('{"nuc": {')
    with pytest.raises(ConfigError, match="cannot be read as JSON"):
        kind(str(tmp_path)).read(broken, (9, 9), 0.5)


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    """Two slides, whose names have dots, and a store of their tiles."""
    folder = tmp_path_factory.mktemp("tools")
    for seed, name in ((3, "A-1.x"), (4, "B-1.y")):
        write(folder / "slides" / f"{name}.tiff", seed, (384, 384))
    tile([folder / "slides"], folder / "store", TileConfig(size_px=96, min_tissue=0.1), quiet=True)
    return folder


@pytest.mark.parametrize(
    ("pattern", "writer", "spec"),
    [
        ("{}.json", hovernet, "hovernet-json:{}"),
        ("json/{}.json", hovernet, "hovernet:{}"),
        ("{}.json", hovernet, "geojson:{}"),
        ("{}/cell_detection/cells.json", cellvit, "cellvit:{}"),
        ("{}/cell_detection/sub/cells.json", cellvit, "cellvit-json:{}"),
        ("{0:.3}_cells.json", cellvit, "cellvit:{}"),
        ("{}_cells.json", cellvit, "geojson:{}"),
    ],
)
def test_files_are_found_by_the_names_that_the_tools_give(slides, tmp_path, pattern, writer, spec):
    store = TileStore.open(slides / "store")
    areas = {}
    for seed, name in ((3, "A-1.x"), (4, "B-1.y")):
        labels = nuclei_of(seed)
        content = hovernet(labels, 20) if writer is hovernet else cellvit(labels, base=20)
        saved(tmp_path / "out", content, pattern.format(name))
        areas[name.replace(".", "_")] = len(np.unique(labels)) - 1
        if "cells" in pattern:  # what lies beside
            saved(
                tmp_path / "out",
                cellvit(labels),
                pattern.format(name).replace("cells.json", "cell_detection.json"),
            )
            saved(tmp_path / "out", [], pattern.format(name).replace("cells.json", "cells.geojson"))
    config = CellsConfig(segmenter=spec.format(tmp_path / "out"), name=tmp_path.name)
    found = cells(slides / "store", config, quiet=True)
    for name in store.slides:
        counted = found.nuclei(name).num_rows
        assert abs(counted - areas[name.replace(".", "_")]) <= 2, (name, counted)


def test_another_slides_file_is_not_taken(slides, tmp_path):
    saved(tmp_path, hovernet(np.zeros((9, 9), int), 20), "A-1.x.json")
    with pytest.raises(PartlyFailedError, match="has no file for B-1"):
        cells(
            slides / "store",
            CellsConfig(segmenter=f"hovernet-json:{tmp_path}", name=tmp_path.name),
            quiet=True,
        )


def test_a_changed_type_info_is_read_again(slides, tmp_path):
    for seed, name in ((3, "A-1.x"), (4, "B-1.y")):
        saved(tmp_path, hovernet(nuclei_of(seed), 20), f"json/{name}.json")
    config = CellsConfig(segmenter=f"hovernet-json:{tmp_path}", name=tmp_path.name)
    cells(slides / "store", config, quiet=True)
    saved(tmp_path, {"1": ["tumour", [1, 2, 3]]}, "type_info.json")
    found = cells(slides / "store", config, quiet=True)
    assert "tumour" in read_json(found.path / "summary.json")["all"]["classes"]
    saved(tmp_path, [], "type_info.json")
    with pytest.raises(PartlyFailedError, match=r"type_info\.json: names no types"):
        cells(slides / "store", config, quiet=True)


def test_a_networks_name_with_a_folder_reads_its_results(tmp_path):
    assert isinstance(load_segmenter(f"cellvit:{tmp_path}"), CellViTJSON)
    assert isinstance(load_segmenter(f"hovernet:{saved(tmp_path, {})}"), HoVerNetJSON)
    assert cells_name(CellsConfig(segmenter=f"cellvit:{tmp_path}")) == "cellvit-json"
    assert cells_name(CellsConfig(segmenter="cellvit")) == "cellvit"
