"""What looks like nuclei has no usual size where the stated resolution is wrong."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dirl.cells.quality.checks import blob_sizes, resolution_doubt
from dirl.cells.run import cells
from dirl.config import CellsConfig, TileConfig
from dirl.store.build import tile
from dirl.synthetic import draw
from tests.known import known

DATA = Path(os.environ.get("DIRL_DATA", Path(__file__).parents[4] / "shared" / "data")) / "monuseg13"


@pytest.fixture(scope="module")
def slide():
    return draw(0, (1024, 1024), 0.5)


@pytest.mark.parametrize("sigma", [2.0, 4.0, 8.0])
def test_discs_are_measured(sigma):
    """A disc answers most at a standard deviation of its radius over √2."""
    y, x = np.mgrid[:512, :512]
    step = int(8 * sigma)
    discs = np.hypot(y % step - step / 2, x % step - step / 2) < np.sqrt(2) * sigma
    rgb = np.where(discs[..., None], (95, 70, 140), (225, 150, 190)).astype(np.uint8)
    assert blob_sizes([rgb], 0.25)[0] == pytest.approx(sigma * 0.25, rel=0.2)


@pytest.mark.parametrize("factor", [0.25, 0.5, 1, 2, 4])
def test_the_likely_resolution_of_the_synthetic_slide_is_named(slide, factor):
    parts = [slide.rgb[i : i + 256, j : j + 256] for i in (256, 512) for j in (256, 512)]
    reason = resolution_doubt(blob_sizes(parts, 0.5 * factor), 0.5 * factor)
    if factor == 1:
        assert reason is None
    else:
        assert known(reason).endswith(f"if the stated {0.5 * factor:g} µm/px is wrong, 0.5 would fit better")


def test_one_usual_size_among_several_is_enough():
    assert resolution_doubt([0.8, 2.8], 0.5) is None
    assert resolution_doubt([0.8, 5.6], 0.5) is not None


def test_too_little_tissue_says_nothing(slide):
    assert blob_sizes([slide.rgb[:100, :100]], 0.5) == []
    assert blob_sizes([np.full((400, 400, 3), 243, np.uint8)], 0.5) == []
    assert blob_sizes([np.full((400, 400, 3), 120, np.uint8)], 0.5) == []
    assert blob_sizes([], 0.5) == []
    assert resolution_doubt([], 0.5) is None


@pytest.mark.skipif(not DATA.is_dir(), reason="no monuseg13: set DIRL_DATA to the folder that holds it")
def test_real_tissue_at_right_and_wrong_resolutions():
    sizes = []
    for file in sorted(DATA.glob("*.labels.png"))[::3]:
        with Image.open(file.with_name(file.name.replace(".labels", ""))) as image:
            sizes.append(blob_sizes([np.asarray(image.convert("RGB").reduce(2))], 0.5))
    warned = {
        factor: sum(
            resolution_doubt([size * factor for size in found], 0.5 * factor) is not None for found in sizes
        )
        for factor in (0.25, 0.5, 1, 2, 4)
    }
    assert warned == {0.25: 5, 0.5: 4, 1: 0, 2: 4, 4: 5}


@pytest.mark.parametrize("workers", [1, 2])
def test_the_warning_reaches_the_user_from_workers_too(tmp_path, slide, workers):
    for name in ("a", "b"):
        folder = tmp_path / "tiles" / name
        folder.mkdir(parents=True)
        for k in range(4):
            Image.fromarray(slide.rgb[192 * k + 64 :][:256, 384:640]).save(folder / f"{k}.png")
    tile([tmp_path / "tiles"], tmp_path / "store", TileConfig(size_px=256, mpp=2, mpp_override=2), quiet=True)
    with pytest.warns(UserWarning, match="a: objects that look .* 0.5 would .*; b: objects that look"):
        cells(tmp_path / "store", CellsConfig(), workers=workers, quiet=True)
    with pytest.warns(UserWarning, match="a: objects that look like nuclei"):  # known from then on
        cells(tmp_path / "store", CellsConfig(), quiet=True)
