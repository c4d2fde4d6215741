from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dirl.audit import confounder as c
from dirl.audit.passes import TileMeasures
from dirl.audit.subjects import encoder_rows, make_subjects
from dirl.audit.summary import MarkAttention, MarkTest
from dirl.audit.tiles import AuditTiles, draw_tiles
from dirl.core.errors import ConfigError
from dirl.core.intervals import Estimate, Units
from dirl.encoders.attention import AttentionRows
from dirl.encoders.loading import LoadedEncoder, load_encoder, preprocess
from dirl.store.dataset import TileStore
from tests.known import known


@given(count=st.integers(2, 60), seed=st.integers(0, 2**16))
@settings(max_examples=20, deadline=None)
def test_half_of_the_tiles_are_marked_and_only_on_the_mark(count: int, seed: int) -> None:
    marks = c.plan_marks(count, 32, seed)
    assert marks.marked.sum() == count // 2
    assert (marks.masks.flatten(1).sum(1) > 0).all()
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8)
    inked = marks.stamp(images, np.arange(count))
    changed = (inked != images).any(1)
    assert not changed[~marks.marked].any()
    assert not (changed & (marks.masks == 0)).any()
    assert (inked <= images).all()
    again = c.plan_marks(count, 32, seed)
    assert (again.marked == marks.marked).all() and (again.masks == marks.masks).all()


def test_auroc_is_the_share_of_pairs_that_are_ranked_right() -> None:
    generator = np.random.default_rng(0)
    p = generator.integers(0, 6, (3, 20)).astype(float)
    on = generator.random(20) < 0.3
    off = ~on & (generator.random(20) < 0.8)
    pairs = [[(a > b) + (a == b) / 2 for a in row[on] for b in row[off]] for row in p]
    assert np.allclose(c._auroc(p, on, off), np.mean(pairs, axis=1))


def _passes(
    monkeypatch: pytest.MonkeyPatch, encoder: LoadedEncoder, tiles: AuditTiles, darkness: float
) -> list[TileMeasures]:
    """Put attention in proportion to exp(darkness · how little red a token has) in the model's place.

    The darkest red of a tile gives the mark away, whatever the encoder.
    """

    def rows(encoder: LoadedEncoder, images: torch.Tensor) -> AttentionRows:
        values = preprocess(encoder, images)
        tokens = torch.nn.functional.avg_pool2d(values[:, 0], 8).flatten(1)
        p = (-darkness * tokens).softmax(-1).view(len(images), 1, 1, 8, 8).expand(-1, 2, 3, -1, -1)
        nothing = torch.zeros(len(images), 2, 3)
        return AttentionRows(p, nothing, nothing, embeddings=images.flatten(2).amin(-1).float())

    monkeypatch.setattr(c, "encoder_rows", rows)
    return [_measured(encoder, tiles, rows)]


def _measured(
    encoder: LoadedEncoder,
    tiles: AuditTiles,
    rows: Callable[[LoadedEncoder, torch.Tensor], AttentionRows] = encoder_rows,
) -> TileMeasures:
    (subject, *_) = make_subjects([(encoder, encoder)], tiles.store)
    found, none = rows(encoder, tiles.read(tiles.indices).images), np.zeros(0)
    return TileMeasures(
        facts=subject.facts,
        min_area=0.01,
        views=none,
        entropies=none,
        areas=none,
        nuclei=none,
        tissue=none,
        classes=none,
        attention=found.patches[:, -1],
        embeddings=found.embeddings,
    )


@pytest.mark.parametrize("points", [True, False])
def test_attention_that_points_at_the_mark_is_told_from_attention_that_does_not(
    store: Path, runs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, points: bool
) -> None:
    monkeypatch.setattr(c, "MARK_SHARE", 0.3)
    tiles = draw_tiles(TileStore.open(store), TileStore.open(store).cells("truth"), 60, 0)
    encoder = load_encoder(str(runs[0]))
    measured = _passes(monkeypatch, encoder, tiles, 5.0 if points else 0.0)
    result = c.confounder([encoder], measured, tiles, 200, 0)
    (one,), statements = result.summary.encoders, result.summary.statements
    assert all(result.marks.marked[place] for _, place in result.shown)
    assert known(one.probe.value) > 0.8
    averaged = one.joint
    if points:
        assert known(averaged.auroc.low) > 0.8 and known(averaged.change.low) > 0
        assert known(averaged.pointing.value) > one.pointing_by_chance
        assert "its attention shows the mark" in statements[0]
        best = result.shown[0][1]  # its attention is that of the same tile
        most = result.attention[0][result.marks.row(best), 0].flatten().argmax()
        mark = torch.nn.functional.max_pool2d(result.marks.masks[best][None].float(), 8).flatten()
        assert mark[most] == 1
    else:
        assert averaged.auroc.value == pytest.approx(0.5)
        assert averaged.enrichment.value == pytest.approx(0, abs=1e-5)
        assert "does not show the mark" in statements[0]


def marked(probe: Estimate, attention: Estimate) -> MarkTest:
    of_mark = MarkAttention(**dict.fromkeys(MarkAttention.model_fields, attention))
    return MarkTest(
        name="one",
        probe=probe,
        per_head=of_mark,
        joint=of_mark,
        auroc_of_heads=[],
        pointing_by_chance=0.1,
    )


def test_nothing_is_asked_of_an_embedding_that_does_not_carry_the_mark() -> None:
    value = Estimate(0.55, 0.44, 0.63)
    assert "nothing can be asked" in c.statement(marked(value, value))


def test_attention_that_turns_away_from_the_mark_is_said_to() -> None:
    probe, away = Estimate(0.8, 0.7, 0.9), Estimate(0.1, 0.05, 0.2)
    assert "its attention turns away from the mark" in c.statement(marked(probe, away))


def test_too_few_tiles_are_refused(store: Path, runs: tuple[Path, Path]) -> None:
    tiles = draw_tiles(TileStore.open(store), TileStore.open(store).cells("truth"), 8, 0)
    with pytest.raises(ConfigError, match="too few"):
        c.confounder([load_encoder(str(runs[0]))], [], tiles, 10, 0)


def test_all_intervals_are_over_slides_where_they_are_known(
    store: Path, runs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = TileStore.open(store)
    tiles = draw_tiles(opened, opened.cells("truth"), 24, 0)
    encoder, used, probe = load_encoder(str(runs[0])), [], c._probe

    def watched(embeddings: np.ndarray, marked: np.ndarray, units: Units) -> Estimate:
        used.append(units)
        return probe(embeddings, marked, units)

    measured = [_measured(encoder, tiles)]
    monkeypatch.setattr(c, "_probe", watched)
    for sources, kind, count in ((None, "tiles", 24), (np.repeat(list("abcdef"), 4), "slides", 6)):
        tiles.__dict__["sources"] = sources  # as if they came from six slides
        assert c.confounder([encoder], measured, tiles, 20, 0).summary.interval.over == kind
        assert (used[-1].kind, len(used[-1])) == (kind, count)
