"""Scales within and between tiles: what they keep, and weights from a file."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dirl.core.errors import ConfigError
from dirl.maps.grid import MapGrid, MapTiles
from dirl.maps.scaling import UNITS, read_tile_weights, weights_of, within_tile

GRID = MapGrid((12, 12), 10.0, 5.0, 40, 4, 2)


def tiles_at(*places, fraction=1.0):
    rows, columns = np.array(places).T
    return MapTiles(rows, columns, np.full(len(places), fraction))


@settings(deadline=None)
@given(seed=st.integers(0, 999), tokens=st.integers(2, 6))
def test_what_the_scales_within_a_tile_keep(seed, tokens):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.rand(3, 2, tokens, tokens, generator=generator) + 1e-3
    rows = 0.6 * rows / rows.sum((-2, -1), keepdim=True)  # the rest went to [CLS]
    tissue = torch.rand(3, tokens, tokens, generator=generator) < 0.5
    tissue[:, 0, 0] = True
    patches = within_tile(rows, tissue, "patches")
    torch.testing.assert_close(patches.mean((-2, -1)), torch.ones(3, 2))
    torch.testing.assert_close(within_tile(rows, tissue, "softmax"), 0.6 * patches)
    on_tissue = within_tile(rows, tissue, "tissue").movedim(1, -1)
    for tile in range(3):
        torch.testing.assert_close(on_tissue[tile][tissue[tile]].mean(0), torch.ones(2))
    ranks = within_tile(rows, tissue, "rank")
    assert ((ranks > 0) & (ranks < 1)).all()
    assert torch.equal(ranks.flatten(2).argsort(-1), rows.flatten(2).argsort(-1))


@pytest.mark.parametrize("kind", UNITS)
def test_even_attention_is_flat(kind):
    rows = torch.full((1, 1, 3, 3), 1 / 9)
    expected = 0.5 if kind == "rank" else 1.0
    torch.testing.assert_close(
        within_tile(rows, torch.ones(1, 3, 3, dtype=torch.bool), kind), torch.full_like(rows, expected)
    )


def test_weights_of_the_same_tiles_are_their_own_over_their_mean():
    tiles = tiles_at((0, 0), (0, 4), (4, 0))
    given_ = np.array([[0, 0, 1.0], [40, 0, 2.0], [0, 40, 6.0]])
    np.testing.assert_allclose(weights_of(tiles, GRID, given_, "file"), np.array([1, 2, 6]) / 3)


def test_a_tile_between_given_ones_gets_their_mean_by_area():
    tiles = tiles_at((0, 0), (0, 2), (0, 3), (0, 4))
    given_ = np.array([[0, 0, 1.0], [40.4, 0, 5.0]])  # rounded corners, as in a store
    expected = np.array([1, 3, 4, 5]) / 3.25
    np.testing.assert_allclose(weights_of(tiles, GRID, given_, "file"), expected, rtol=0.02)


def test_a_tile_that_the_file_misses_is_named_with_what_leaves_it_out():
    tiles = tiles_at((0, 0), (8, 8), fraction=0.3)
    with pytest.raises(ConfigError, match=r"misses 1 of 2 tiles, first at x 80, y 80.*--min-tissue 0.31"):
        weights_of(tiles, GRID, np.array([[0, 0, 1.0]]), "file")
    with pytest.raises(ConfigError, match="weight 0"):
        weights_of(tiles_at((0, 0)), GRID, np.array([[0, 0, 0.0], [80, 80, 1.0]]), "file")


def test_weights_by_csv_and_parquet_and_of_one_slide(tmp_path):
    (tmp_path / "w.csv").write_text("slide_id,x,y,weight\n7,0,0,1\n8,0,0,9\n7,40,0,3\n")
    expected = [[0, 0, 1], [40, 0, 3]]
    assert read_tile_weights(tmp_path / "w.csv", "7").tolist() == expected
    table = pa.table({"weight": [1.0, 3.0], "x": [0, 40], "y": [0, 0]})
    pq.write_table(table, tmp_path / "w.parquet")
    assert read_tile_weights(tmp_path / "w.parquet", "any").tolist() == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file.*name uniform, patch-mass or a file"),
        ("", "lacks the columns x, y, weight"),
        ("x,y\n0,0\n", "lacks the column weight"),
        ("x,y,weight\n0,0,much\n", "not a table of numbers"),
        ("x,y,weight\n0,0,-1\n", "must be finite, not negative"),
        ("x,y,weight\n0,0,nan\n", "must be finite, not negative"),
        ("x,y,weight\n0,0,\n1,1,2\n", "must be finite, not negative"),
        ("x,y,weight\n0,0,0\n", "not all 0"),
        ("slide_id,x,y,weight\nother,0,0,1\n", "holds no tile of mine"),
    ],
)
def test_bad_weights(tmp_path, text, message):
    if text is not None:
        (tmp_path / "w.csv").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_tile_weights(tmp_path / "w.csv", "mine")
    (tmp_path / "w.parquet").write_bytes(b"no parquet")
    with pytest.raises(ConfigError, match="not a table"):
        read_tile_weights(tmp_path / "w.parquet", "mine")
