"""Scores of frozen tokens: independent references, no leaks, and the command on a drawn slide."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score
from typer.testing import CliRunner

import dirl
from dirl import synthetic
from dirl.cli.main import app
from dirl.core.errors import ConfigError
from dirl.core.intervals import Units
from dirl.core.results import read_as
from dirl.encoders.loading import load_encoder
from dirl.evaluate.tokens.heads import cross_validate, score_area
from dirl.evaluate.tokens.masks import open_masks
from dirl.evaluate.tokens.read import read_tiles, token_colours
from dirl.evaluate.tokens.score import score_each_type
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
    units = Units("slides", np.arange(6), 100, 0)
    found = score_area(masks, (4, 4), chance, truth, units, 0)
    auroc = found.classes.estimates()["macro_auroc"]
    assert auroc.value == pytest.approx(roc_auc_score(truth.ravel(), chance.ravel()))
    assert auroc.low is not None and auroc.value is not None and auroc.low <= auroc.value
    perfect = score_area(masks, (4, 4), truth.astype(float), truth, units, 0)
    assert perfect.average_precision.value == pytest.approx(1)
    assert (perfect.dice.value or 0) > 0.7  # upsampling blurs the borders


def test_scores_of_each_type_are_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    truth, guess = generator.integers(0, 3, (2, 200))
    truth[truth == 1] = 2  # the second class does not occur
    found = score_each_type(truth, guess, ("a", "b", "c"), Units("slides", np.arange(200) // 10, 50, 0))
    expected = precision_recall_fscore_support(truth, guess, labels=[0, 1, 2], zero_division=0)
    assert list(found) == ["a", "c"]
    for name, i in (("a", 0), ("c", 2)):
        precision, recall, f1, n = (each[i] for each in expected)
        assert found[name].n == n
        assert found[name].precision.value == pytest.approx(precision)
        assert found[name].recall.value == pytest.approx(recall)
        assert found[name].f1.value == pytest.approx(f1)
        assert (found[name].f1.low or 1) < f1 < (found[name].f1.high or 0)


def test_a_class_that_only_one_fold_has_is_not_predicted_there() -> None:
    values = np.random.default_rng(0).normal(size=(60, 2))
    folds = np.arange(60) // 30
    classes = np.where(folds == 0, np.arange(60) % 2, 0)
    found = cross_validate(values, classes, folds, np.arange(60), 0, lambda: None)
    assert (found[folds == 0] == [1, 0]).all()  # its training part has one class
    assert ((found[folds == 1] > 0) & (found[folds == 1] < 1)).all()


def test_the_area_of_a_nucleus_is_shared_over_its_tokens(small_store: Path) -> None:
    store = TileStore.open(small_store)
    cells = store.cells("hematoxylin")
    tiles = read_tiles(store, np.arange(3), load_encoder(ENCODER), cells)
    (nuclei,) = tiles.areas
    side = nuclei.pixels.shape[1]
    assert nuclei.share.mean() == pytest.approx(nuclei.pixels.mean())
    labels = cells.labels(0)
    top = (labels.shape[0] - side) // 2
    assert (nuclei.pixels[0] == (labels[top : top + side, top : top + side] > 0)).all()


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
    assert (summary.results["rgb"].areas["nuclei"].auroc.value or 0) > 0.7  # nuclei are dark
    assert summary.results["features"].areas["nuclei"].over_rgb is not None
    assert summary.groups == "slides" and summary.classes == {}
    assert "colours of the token" in result.output and "have no classes" in result.output


def test_more_folds_than_slides_are_refused(two_slides: Path, tmp_path: Path) -> None:
    config = dirl.TokensConfig(folds=50, tiles=12)
    with pytest.raises(ConfigError, match="for 50 folds"):
        dirl.tokens(ENCODER, two_slides, tmp_path / "out", config, device="cpu", quiet=True)
    assert not (tmp_path / "out").exists()


def _write_masks(folder: Path, *, coarser: int = 1) -> np.ndarray:
    """Draw a mask for both slides: 1 left of the middle, 2 in the upper half right of it."""
    folder.mkdir()
    mask = np.zeros((384 // coarser, 384 // coarser), np.uint8)
    half = mask.shape[0] // 2
    mask[:, :half], mask[:half, half:] = 1, 2
    for name in ("a", "b"):
        Image.fromarray(mask).save(folder / f"{name}.png")
    return mask


@pytest.mark.parametrize("coarser", [1, 2])
def test_masks_lie_where_the_tiles_do(two_slides: Path, tmp_path: Path, coarser: int) -> None:
    mask = _write_masks(tmp_path / "masks", coarser=coarser).repeat(coarser, 0).repeat(coarser, 1)
    store = TileStore.open(two_slides)
    step = store.spec.mpp / store.slides["a"].mpp
    numbers = np.arange(len(store))
    found = open_masks(str(tmp_path / "masks"), store, numbers).read(store, numbers)
    for i in numbers.tolist():
        x, y = (store.index[axis][i].as_py() for axis in ("x", "y"))
        at = (np.floor((np.arange(64) + 0.5) * step)).astype(int)
        assert (found[i] == mask[np.ix_(y + at, x + at)]).all(), i
    assert {*np.unique(found)} == {0, 1, 2}


def test_masks_are_scored_by_class_in_the_place_of_nuclei(two_slides: Path, tmp_path: Path) -> None:
    _write_masks(tmp_path / "masks")
    (tmp_path / "masks" / "classes.json").write_text('{"1": "left"}')
    arguments = [
        "tokens",
        ENCODER,
        "--store",
        str(two_slides),
        "--out",
        str(tmp_path / "out"),
        "--folds",
        "2",
    ]
    arguments += ["--bootstrap", "50", "--device", "cpu", "--masks", str(tmp_path / "masks")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    summary = read_as(tmp_path / "out", TokensSummary).summary
    assert summary.cells is None and list(summary.prevalence) == ["left", "2"]
    assert all(list(one.areas) == ["left", "2"] and one.types is None for one in summary.results.values())
    assert {row["task"] for row in summary.rows()} == {"left", "2"}
    assert "left: " in result.output and "types" not in result.output
    changed = Image.fromarray(np.full((384, 384), 1, np.uint8))
    changed.save(tmp_path / "masks" / "a.png")
    assert CliRunner().invoke(app, arguments).exit_code != 0  # the masks are inputs of the result


def test_masks_of_one_name_are_one_class(two_slides: Path, tmp_path: Path) -> None:
    mask = _write_masks(tmp_path / "masks")
    (tmp_path / "masks" / "classes.json").write_text('{"1": "tissue", "2": "tissue"}')
    store = TileStore.open(two_slides)
    numbers = np.arange(len(store))
    masks = open_masks(str(tmp_path / "masks"), store, numbers)
    (area,) = read_tiles(store, numbers, load_encoder(ENCODER), masks).areas
    assert area.name == "tissue" and 0 < area.pixels.mean() < 1 and (mask == 0).any()


@pytest.mark.parametrize(
    ("spec", "wrong", "message"),
    [
        ("{}", None, "has no file for"),
        ("{},kind=x", None, "takes no option kind"),
        ("{},mpp=-1", None, "not a number above 0"),
        ("{}", np.arange(384 * 384).reshape(384, 384).astype(np.uint16), "instances, not classes"),
        ("{}", np.zeros((384, 384, 3), np.uint8), "a colour picture, not class numbers"),
        ("{}", np.zeros((30, 60), np.uint8), "do not cover the image"),
        ("{}", np.zeros((384, 384), np.uint8), "masks of these tiles are empty"),
    ],
)
def test_wrong_masks_are_refused(
    two_slides: Path, tmp_path: Path, spec: str, wrong: np.ndarray | None, message: str
) -> None:
    (tmp_path / "masks").mkdir()
    if wrong is not None:
        for name in ("a", "b"):
            Image.fromarray(wrong).save(tmp_path / "masks" / f"{name}.png")
    config = dirl.TokensConfig(folds=2, tiles=12, masks=spec.format(tmp_path / "masks"))
    with pytest.raises(ConfigError, match=message):
        dirl.tokens(ENCODER, two_slides, tmp_path / "out", config, device="cpu", quiet=True)


def test_masks_and_cells_are_two_tasks() -> None:
    with pytest.raises(ValueError, match="take the place of cells"):
        dirl.TokensConfig(masks="masks", cells="mine")
