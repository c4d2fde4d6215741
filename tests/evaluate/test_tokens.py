"""Scores of frozen tokens: independent references, no leaks, and the command on a drawn slide."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

import dirl
from dirl import synthetic
from dirl.cli.main import app
from dirl.core.errors import ConfigError
from dirl.core.intervals import Units
from dirl.core.results import read_as
from dirl.encoders.loading import load_encoder
from dirl.evaluate.tokens.heads import cross_validate, score_nuclei
from dirl.evaluate.tokens.read import TokenTiles, read_tiles, token_colours
from dirl.evaluate.tokens.summary import TokensSummary
from dirl.store.dataset import TileStore

ENCODER = "timm:vit_tiny_patch16_224,weights=random,embed_dim=24,depth=1,num_heads=2,patch_size=8,img_size=64"


def test_colours_of_a_token_are_its_own_and_those_around_its_neighbours() -> None:
    pixels = np.random.default_rng(0).random((1, 8, 12, 3)).astype(np.float32)
    plain = token_colours(pixels, (2, 3), around=False)
    block = pixels[0, 4:8, 8:12].reshape(-1, 3)
    expected = np.concatenate([block.mean(0), block.std(0), -np.log(block.mean(0))])
    np.testing.assert_allclose(plain[0, 5], expected, rtol=1e-5)
    around = token_colours(pixels, (2, 3), around=True)
    assert around.shape == (1, 6, 81)
    np.testing.assert_allclose(around[0, 4, 4 * 9 : 5 * 9], plain[0, 4], rtol=1e-6)
    np.testing.assert_allclose(around[0, 4, 1 * 9 : 2 * 9], plain[0, 1], rtol=1e-6)  # the row above
    np.testing.assert_allclose(around[0, 0, :9], plain[0, 0], rtol=1e-6)  # the border repeats


def test_heads_find_what_is_linear_and_nothing_where_there_is_nothing() -> None:
    generator = np.random.default_rng(0)
    groups = np.arange(600) // 20
    folds = groups % 5
    classes = generator.integers(0, 2, 600)
    noise = generator.normal(size=(600, 4))
    signal = np.column_stack([noise, classes + 0.1 * generator.normal(size=600)])
    found = cross_validate(signal, classes, folds, groups, 0, lambda: None)
    assert roc_auc_score(classes, found[:, 1]) > 0.99
    nothing = cross_validate(noise, classes, folds, groups, 0, lambda: None)
    assert abs(roc_auc_score(classes, nothing[:, 1]) - 0.5) < 0.1


def test_a_feature_that_names_the_group_does_not_help() -> None:
    generator = np.random.default_rng(0)
    groups = np.arange(400) // 10
    classes = generator.integers(0, 2, 40)[groups]  # one class in each group
    names = np.eye(40)[groups]
    found = cross_validate(names, classes, groups % 5, groups, 0, lambda: None)
    assert abs(roc_auc_score(classes, found[:, 1]) - 0.5) < 0.15


def test_scores_of_tokens_are_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    truth = generator.random((6, 16)) < 0.3
    chance = np.clip(truth * 0.4 + generator.random((6, 16)) * 0.6, 0, 1)
    masks = truth.reshape(6, 4, 4).repeat(8, 1).repeat(8, 2)
    nothing = np.empty((0, 16), np.float32)
    none = np.empty(0, np.int64)
    tiles = TokenTiles(
        torch.zeros(6, 3, 32, 32), (4, 4), truth.astype(np.float32), masks, nothing, none, none, ()
    )
    units = Units("slides", np.arange(6), 100, 0)
    found = score_nuclei(tiles, chance, truth, units, 0)
    auroc = found.classes.estimates()["macro_auroc"]
    assert auroc.value == pytest.approx(roc_auc_score(truth.ravel(), chance.ravel()))
    assert auroc.low is not None and auroc.value is not None and auroc.low <= auroc.value
    perfect = score_nuclei(tiles, truth.astype(float), truth, units, 0)
    assert perfect.average_precision.value == pytest.approx(1)
    assert (perfect.dice.value or 0) > 0.7  # upsampling blurs the borders


def test_the_area_of_a_nucleus_is_shared_over_its_tokens(small_store: Path) -> None:
    store = TileStore.open(small_store)
    cells = store.cells("hematoxylin")
    tiles = read_tiles(store, cells, np.arange(3), load_encoder(ENCODER))
    side = tiles.masks.shape[1]
    assert tiles.share.mean() == pytest.approx(tiles.masks.mean())
    labels = cells.labels(0)
    top = (labels.shape[0] - side) // 2
    assert (tiles.masks[0] == (labels[top : top + side, top : top + side] > 0)).all()


@pytest.fixture(scope="module")
def two_slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokens")
    for name, seed in (("a", 1), ("b", 2)):
        synthetic.write(folder / f"{name}.tif", seed=seed, size_px=(384, 384))
    config = dirl.TileConfig(size_px=64, min_tissue=0.5)
    dirl.tile([folder / "a.tif", folder / "b.tif"], folder / "store", config, quiet=True)
    dirl.cells(folder / "store", quiet=True)
    return folder / "store"


def test_the_command_scores_tokens_beside_their_baselines(two_slides: Path, tmp_path: Path) -> None:
    arguments = ["tokens", ENCODER, "--store", str(two_slides), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*arguments, "--folds", "2", "--bootstrap", "50", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    summary = read_as(tmp_path / "out", TokensSummary).summary
    assert list(summary.results) == ["features", "untrained", "rgb_around", "rgb"]
    assert summary.results["rgb"].width == 9 and summary.results["rgb_around"].width == 81
    assert (summary.results["rgb"].nuclei.auroc.value or 0) > 0.7  # nuclei are dark
    assert summary.results["features"].nuclei.over_rgb is not None
    assert summary.groups == "slides" and summary.classes == {}
    assert "colours of the token" in result.output and "have no classes" in result.output


def test_more_folds_than_slides_are_refused(two_slides: Path, tmp_path: Path) -> None:
    config = dirl.TokensConfig(folds=50, tiles=12)
    with pytest.raises(ConfigError, match="for 50 folds"):
        dirl.tokens(ENCODER, two_slides, tmp_path / "out", config, device="cpu", quiet=True)
    assert not (tmp_path / "out").exists()
