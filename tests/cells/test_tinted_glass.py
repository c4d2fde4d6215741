"""Nuclei on tinted glass are those of the same slide on white glass."""

import numpy as np
import pytest
from PIL import Image

from dirl.cells.run import cells
from dirl.config import CellsConfig, TileConfig
from dirl.slides.glass import white_balanced
from dirl.store.build import tile
from dirl.synthetic import draw


def test_a_segmenter_sees_tinted_slides_white_balanced(tmp_path):
    pixels = draw(5, (512, 512)).rgb
    tint = (0.7, 0.8, 1.0)
    Image.fromarray(pixels).save(tmp_path / "white.png")
    Image.fromarray(np.rint(pixels * np.array(tint)).astype(np.uint8)).save(tmp_path / "blue.png")
    config = TileConfig(size_px=128, mpp_override=0.5)
    store = tile([tmp_path / "white.png", tmp_path / "blue.png"], tmp_path / "store", config, quiet=True)
    found = cells(tmp_path / "store", CellsConfig(), quiet=True)
    assert store.slides["blue"].white == pytest.approx(np.multiply(store.slides["white"].white, tint), abs=2)
    white, blue = (len(found.nuclei(name, ["id"])["id"]) for name in ("white", "blue"))
    assert white > 20
    assert blue == pytest.approx(white, rel=0.1)
    (note,) = (text for text in found.card.counts["notes"] if "white-balanced" in text)
    assert found.card.counts["notes"][note] == 1


def test_balanced_glass_is_as_bright_as_usual():
    yellow = np.full((4, 5, 3), (240, 216, 144), np.uint8)
    assert np.all(white_balanced(yellow, (240, 216, 144)) == 243)
    assert np.all(white_balanced(np.full((4, 5, 3), 255, np.uint8), (240, 216, 144)) == 255)
    assert np.all(white_balanced(np.zeros((4, 5, 3), np.uint8), (240, 216, 144)) == 0)
