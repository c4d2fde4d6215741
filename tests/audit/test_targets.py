"""AUROC of attention for nuclei and classes of cells."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from dirl.audit.passes import TileMeasures
from dirl.audit.subjects import make_subjects
from dirl.audit.tiles import AuditTiles, class_shares, draw_tiles
from dirl.audit.trust import aurocs, pixel_auroc
from dirl.core.intervals import choose_units
from dirl.encoders.loading import load_encoder
from dirl.store.dataset import TileStore


@given(seed=st.integers(0, 999), tokens=st.integers(2, 20), pixels=st.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_it_is_the_auroc_of_pixels(seed: int, tokens: int, pixels: int) -> None:
    generator = np.random.default_rng(seed)
    attention = generator.integers(0, 5, tokens) / 10  # with ties
    on = generator.integers(0, pixels + 1, tokens)
    off = pixels - on
    if not on.sum() or not off.sum():
        assert np.isnan(pixel_auroc(attention, on / pixels, off / pixels))
        return
    labels = np.concatenate([np.repeat([1, 0], [a, b]) for a, b in zip(on, off, strict=True)])
    expected = roc_auc_score(labels, np.repeat(attention, pixels))
    assert pixel_auroc(attention, on / pixels, off / pixels) == pytest.approx(expected)


def test_nuclei_and_classes_by_hand(store: Path, runs: tuple[Path, Path]) -> None:
    """Four tokens: attention rises from the first to the last."""
    opened, encoder = TileStore.open(store), load_encoder(str(runs[0]))
    (subject, *_) = make_subjects([(encoder, encoder)], opened)
    measured = TileMeasures(
        subject.facts,
        0.01,
        views=np.zeros(0),
        entropies=np.zeros(0),
        areas=np.zeros(0),
        nuclei=np.array([[0, 0, 1, 1.0], [0, 0, 0, 0]]),
        tissue=np.array([[1, 1, 1, 1.0], [1, 1, 1, 1]]),
        classes=np.array([[[0, 0, 1, 0.0], [0, 0, 0, 0]], [[0, 0, 0, 1.0], [0, 0, 0, 0]]]),
        attention=torch.tensor([[0.1, 0.2, 0.3, 0.4]] * 2).view(2, 1, 2, 2),
    )
    found = aurocs(measured, ("stroma", "tumour"), choose_units(None, 2, 50, 0))
    assert list(found) == ["nuclei", "stroma", "tumour"]
    # The third token is above two and below one of the others. The second tile has no nuclei.
    assert [one.value for one in found.values()] == pytest.approx([1, 2 / 3, 1])


def test_glass_does_not_count() -> None:
    assert pixel_auroc(np.array([0.1, 0.2, 0.3]), np.array([0, 1, 0]), np.array([0, 0, 1])) == 0


def test_classes_are_those_of_the_nuclei_of_each_slide(
    store: Path, runs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, encoder = TileStore.open(store), load_encoder(str(runs[0]))
    tiles = draw_tiles(opened, opened.cells("truth"), 6, 0)
    batch = tiles.read(tiles.indices)
    assert tiles.classes == () and class_shares(encoder, tiles, batch).shape == (0, 6, 64)
    read = tiles.cells.nuclei

    def with_classes(slide: str, columns: list[str] | None = None) -> pa.Table:
        table = read(slide)
        names = [("even", None, "odd", None)[number % 4] for number in table["id"].to_pylist()]
        return table.set_column(table.column_names.index("class"), "class", pa.array(names, pa.string()))

    monkeypatch.setattr(tiles.cells, "nuclei", with_classes)
    tiles = AuditTiles(tiles.store, tiles.cells, tiles.indices)
    shares = class_shares(encoder, tiles, batch)
    assert tiles.classes == ("even", "odd")
    for rest, share in zip((0, 2), shares, strict=True):
        pixels = (batch.labels > 0) & (batch.labels % 4 == rest)
        assert share.mean(1) == pytest.approx(pixels.float().mean((1, 2)).numpy(), abs=1e-6)
