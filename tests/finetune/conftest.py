"""Tiles of two classes that colour does not tell: wide stripes, and thin ones."""

import csv

import numpy as np
import pytest
import simplejpeg

from dirl.config import FinetuneConfig, TileConfig
from dirl.store.build import tile

SIDE, COUNT = 32, 64
ENCODER = "timm:vit_tiny_patch16_224,weights={},embed_dim=32,depth=2,num_heads=2,img_size=32,patch_size=8"
ENCODER += ",global_pool=avg"


@pytest.fixture(scope="session")
def shapes(tmp_path_factory):
    """A store of 64 ready-made tiles, half of them of each class."""
    folder, rng = tmp_path_factory.mktemp("shapes"), np.random.default_rng(0)
    for number in range(COUNT):
        # Colours in the middle of a level of the histogram, so that compression does not tell the width.
        dark = 16 + 32 * rng.integers(2, 5, 3)
        width = 8 if number % 2 else 2
        stripes = (np.arange(SIDE) // width % 2 == rng.integers(2))[:, None, None]
        image = np.where(stripes, dark, np.array([208, 208, 208])).astype(np.uint8).repeat(SIDE, axis=1)
        path = folder / "tiles" / ("wide" if number % 2 else "thin") / f"{number:02}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(simplejpeg.encode_jpeg(image, quality=98, colorsubsampling="444"))
    return tile(
        [folder / "tiles"], folder / "store", TileConfig(size_px=SIDE, mpp_override=1.0), quiet=True
    ).path


@pytest.fixture
def encoder(tmp_path):
    """A tiny transformer whose weights are a file's, and so not known to be random."""
    from safetensors.torch import save_file

    from dirl.encoders.loading import load_encoder

    model = load_encoder(ENCODER.format("random")).model
    save_file({name: value + 0.01 for name, value in model.state_dict().items()}, tmp_path / "w.safetensors")
    return ENCODER.format(tmp_path / "w.safetensors")


@pytest.fixture
def write_labels(tmp_path, shapes):
    """Return ``write(**columns)``: a CSV of all tiles with their classes, or with what is given."""
    from dirl.store.dataset import TileStore

    store = TileStore.open(shapes)

    def write(name="labels.csv", **columns):
        values = {"tile_id": store.tile_ids.tolist(), "label": store.labels.tolist()} | columns
        with (tmp_path / name).open("w", newline="") as handle:
            rows = csv.writer(handle)
            rows.writerow(values)
            rows.writerows(zip(*values.values(), strict=True))
        return str(tmp_path / name)

    return write


@pytest.fixture
def quick(monkeypatch):
    """Few epochs, and few costs of the linear probe."""
    monkeypatch.setattr("dirl.evaluate.probe.linear.COSTS", np.array([0.01, 1.0]))
    return FinetuneConfig(
        folds=2, epochs=12, batch=8, learning_rates=(1e-2,), neighbours=(5,), bootstrap=50, groups="given"
    )
