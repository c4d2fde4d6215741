"""The slide with the dark square, once."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from dirl.maps import picture
from tests.maps_cases import planted_rgb, write_tiff


@dataclass(frozen=True)
class Planted:
    path: Path
    rgb: np.ndarray


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    rgb = planted_rgb()
    return Planted(write_tiff(tmp_path_factory.mktemp("planted") / "planted.tif", rgb, 0.5), rgb)


@pytest.fixture(autouse=True, scope="package")
def small_pictures():
    """Drawing takes most of the time of a small map."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(picture, "SIDE_PX", 200)
        patch.setattr(picture, "DPI", 40)
        yield
