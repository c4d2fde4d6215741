"""Nuclei of no usual size tell that the stated resolution is wrong."""

import numpy as np
import pytest
from PIL import Image

from dirl.cells.hematoxylin import Hematoxylin
from dirl.cells.nuclei import NucleiMask
from dirl.cells.plausible import implausible
from dirl.cells.segment import cells
from dirl.config import CellsConfig, TileConfig
from dirl.store.build import tile
from dirl.synthetic import draw


def areas(diameters_um):
    return np.pi / 4 * np.square(diameters_um)


def test_usual_sizes_are_not_remarked_on():
    assert implausible(areas(np.linspace(4, 9, 300)), 0.25) is None


def test_too_few_nuclei_say_nothing():
    assert implausible(areas(np.full(20, 2.0)), 0.25) is None
    assert implausible([], 0.25) is None


@pytest.mark.parametrize(("factor", "likely"), [(2, "0.25"), (4, "0.125"), (0.5, "1"), (0.25, "2")])
def test_the_likely_resolution_is_named(factor, likely):
    true = areas(np.linspace(4.5, 9, 300))
    reason = implausible(true * factor**2, 0.5)
    assert reason.endswith(f"if the stated 0.5 µm/px is wrong, {likely} would fit better")


@pytest.mark.parametrize("mpp", [0.5, 1.0])
def test_the_synthetic_slide_has_usual_nuclei(mpp):
    slide = draw(0, (1024, 1024), mpp)
    (mask,) = Hematoxylin().fit([slide.rgb], mpp)([slide.rgb])
    assert len(mask) > 100
    assert implausible(np.bincount(mask.labels.ravel())[1:] * mpp**2, mpp) is None


class Tiny:
    """A segmenter whose nuclei are all 2 µm wide."""

    mpp = 0.5
    digest = "0" * 16

    def fit(self, samples, mpp):
        def find(windows):
            masks = []
            for window in windows:
                labels = np.zeros(window.shape[:2], np.int32)
                spots = labels[4::12, 4::12]
                spots[:] = np.arange(1, spots.size + 1).reshape(spots.shape)
                for down, right in ((1, 0), (0, 1), (1, 1)):
                    labels[4 + down :: 12, 4 + right :: 12][: len(spots), : len(spots[0])] = spots
                masks.append(NucleiMask(labels, None, (), mpp, self.digest))
            return masks

        return find


@pytest.mark.parametrize("workers", [1, 2])
def test_the_warning_reaches_the_user_from_workers_too(tmp_path, workers):
    for name in ("a", "b"):
        folder = tmp_path / "tiles" / name
        folder.mkdir(parents=True)
        for k in range(2):
            Image.fromarray(draw(k, (160, 160)).rgb).save(folder / f"{k}.png")
    config = TileConfig(size_px=160, mpp_override=0.5)
    tile([tmp_path / "tiles"], tmp_path / "store", config, quiet=True)
    with pytest.warns(UserWarning, match="a: half of the nuclear area .*; b: half of the nuclear area"):
        cells(
            tmp_path / "store",
            CellsConfig(segmenter=f"{__name__}:Tiny", name="tiny"),
            workers=workers,
            quiet=True,
        )
