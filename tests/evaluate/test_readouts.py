"""Readouts: each is what its name says, all have one width, and the command compares them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import dirl
from dirl.cli.main import app
from dirl.core.errors import StoreError
from dirl.core.results import read_as
from dirl.encoders.loading import LoadedEncoder, load_encoder
from dirl.evaluate.readouts.read import BOTH, CLASS, MEAN, REGIONS, equal_width, read_readouts
from dirl.evaluate.readouts.summary import ReadoutsSummary
from dirl.features.pooling import embed_pooled, patch_tokens
from dirl.prior.regions import TileNuclei, tissue_rings
from dirl.store.dataset import TileStore
from tests.known import known

ENCODER = "timm:vit_tiny_patch16_224,weights=random,embed_dim=24,depth=1,num_heads=2,patch_size=8,img_size=64"
WITHOUT_CLASS = ENCODER + ",class_token=false,global_pool=avg"


@pytest.fixture(scope="module")
def encoder() -> LoadedEncoder:
    return load_encoder(ENCODER, device=torch.device("cpu"))


def test_each_readout_is_what_its_name_says(small_store: Path, encoder: LoadedEncoder) -> None:
    store = TileStore.open(small_store)
    cells = store.cells("hematoxylin")
    numbers = np.array([0, 3, 5])
    found = read_readouts(store, cells, numbers, encoder, lambda count: None)
    images = torch.from_numpy(np.stack([store.image(i) for i in numbers.tolist()])).permute(0, 3, 1, 2)
    np.testing.assert_allclose(found[CLASS], embed_pooled(encoder, images).numpy(), rtol=1e-4, atol=1e-5)
    mean = embed_pooled(encoder, images, pool="mean").numpy()
    np.testing.assert_allclose(found[MEAN], mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found[BOTH], np.concatenate([found[CLASS], found[MEAN]], axis=1))
    tokens = patch_tokens(encoder, images).numpy()
    ring_px = 4.0 / store.spec.mpp
    for row, number in enumerate(numbers.tolist()):
        stored = cells.regions(number)
        nuclei = TileNuclei((stored == 1).astype(np.uint8), stored > 0, np.zeros(0, np.int32), "slide")
        ids = tissue_rings(ring_px).draw(nuclei)
        expected = []
        for region in (1, 2, 3):
            share = (ids == region).reshape(8, 8, 8, 8).mean((1, 3)).ravel()
            expected.append(share @ tokens[row] / share.sum() if share.any() else np.zeros(24))
        np.testing.assert_allclose(found[REGIONS][row], np.concatenate(expected), rtol=1e-3, atol=1e-4)


def test_readouts_that_cannot_be_are_missing(small_store: Path) -> None:
    store = TileStore.open(small_store)
    encoder = load_encoder(WITHOUT_CLASS, device=torch.device("cpu"))
    assert list(read_readouts(store, None, np.array([0]), encoder, lambda count: None)) == [MEAN]


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 99), wide=st.integers(2, 12), width=st.integers(1, 12))
def test_the_main_directions_are_centred_and_keep_what_they_can(seed: int, wide: int, width: int) -> None:
    values = np.random.default_rng(seed).normal(3, 2, (30, wide))
    kept = equal_width(values, width).astype(np.float64)
    assert kept.shape == (30, min(width, wide))
    np.testing.assert_allclose(kept.mean(0), 0, atol=1e-5)
    centred = values - values.mean(0)
    # The best approximation of this rank, by the singular values: an independent definition.
    spread = np.linalg.svd(centred, compute_uv=False) ** 2
    np.testing.assert_allclose((kept**2).sum(), spread[:width].sum(), rtol=1e-4)


def test_the_command_compares_readouts_at_one_width(small_store: Path, tmp_path: Path) -> None:
    store = TileStore.open(small_store)
    means = np.array([store.image(i)[..., 0].mean() for i in range(len(store))])
    dark = means < np.median(means)  # classes that features can tell
    rows = [
        f"{tile},{'dark' if one else 'light'},{i % 3},{tile}\n"
        for i, (tile, one) in enumerate(zip(store.tile_ids, dark, strict=True))
    ]
    (tmp_path / "labels.csv").write_text("".join(["tile_id,label,fold,group\n", *rows]))
    arguments = ["readouts", ENCODER, "--store", str(small_store), "--labels", str(tmp_path / "labels.csv")]
    arguments += ["--out", str(tmp_path / "out"), "--cells", "hematoxylin", "--width", "8"]
    result = CliRunner().invoke(
        app, [*arguments, "--folds", "3", "--groups", "given", "--bootstrap", "50", "--device", "cpu"]
    )
    assert result.exit_code == 0, result.output
    summary = read_as(tmp_path / "out", ReadoutsSummary).summary
    assert list(summary.results) == [CLASS, MEAN, BOTH, REGIONS, "colour_histogram"]
    assert [one.width for one in summary.results.values()] == [24, 24, 48, 72, 512]
    assert {one.kept for one in summary.results.values()} == {8}
    mean, first = summary.results[MEAN], summary.results[CLASS]
    assert first.over_class is None
    gain = known(mean.classifiers["linear"].balanced_accuracy.value) - known(
        first.classifiers["linear"].balanced_accuracy.value
    )
    assert known(mean.over_class)["linear"].value == pytest.approx(gain)
    assert known(mean.classifiers["linear"].balanced_accuracy.value) > 0.6
    assert "means of nuclei, ring and rest" in result.output and "width of 8" in result.output
    assert dirl.read_result(tmp_path / "out").summary == summary


def test_missing_cells_are_an_error(small_store: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="mine"):
        dirl.readouts(
            ENCODER, small_store, "label", tmp_path / "out", dirl.ReadoutsConfig(cells="mine"), device="cpu"
        )
    assert not (tmp_path / "out").exists()
