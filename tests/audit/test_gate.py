"""The gate: retrieval, held-out tiles, the loss, and what it says when it fails."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dirl.audit.findings import IntervalUnits
from dirl.audit.gate import Embedded, GateTiles, _gate, channel_statistics, gate_tiles, gates, retrieved
from dirl.core.card import finish, new_card
from dirl.core.claim import claim
from dirl.core.files import write_text
from dirl.core.intervals import Estimate
from dirl.encoders.loading import LoadedEncoder, load_encoder
from dirl.store.dataset import TileStore
from dirl.store.subsample import held_out
from tests.known import known


class Oracle(nn.Module):
    """Knows which tile an image is of, since it sees all tiles and then their views: a perfect encoder."""

    def __init__(self, tiles: GateTiles) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        count = len(tiles.indices)
        self.answers = torch.eye(count)[np.concatenate([np.arange(count), tiles.looked_for])]
        self.seen = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        start, self.seen = self.seen, self.seen + len(images)
        return self.answers[start : self.seen]


def views(store: Path, runs: tuple[Path, Path]) -> tuple[GateTiles, list[LoadedEncoder]]:
    encoders = [load_encoder(str(run)) for run in runs]
    return gate_tiles(TileStore.open(store), np.arange(24), runs, seed=0), encoders


def test_retrieval() -> None:
    keys = torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    own = torch.arange(20)
    assert retrieved(keys + 0.01, keys, own).all()
    assert not retrieved(keys.roll(1, 0), keys, own).any()
    assert retrieved(keys.roll(1, 0), keys, own.roll(1)).all()
    scale = torch.linspace(1, 100, 8)
    assert retrieved(
        keys * scale + 90, keys * scale + 50, own
    ).all()  # views may differ from tiles as a whole


def test_channel_statistics() -> None:
    images = torch.rand(4, 3, 9, 9)
    found = channel_statistics(images)
    torch.testing.assert_close(found[:, :3], images.mean((2, 3)))
    torch.testing.assert_close(found[:, 3:], images.flatten(2).std(2))


def test_only_tiles_that_no_run_was_trained_on_and_audited_ones_first(
    store: Path, runs: tuple[Path, Path]
) -> None:
    tiles, _ = views(store, runs)
    free = held_out(tiles.store.tile_ids.tolist(), 0.5, 0)
    assert len(tiles.indices) == 24 and free[tiles.indices].all()
    assert (np.diff(tiles.indices) > 0).all()
    assert set(np.flatnonzero(free[:24])) < set(tiles.indices.tolist())
    assert tiles.views.size_px == 48 and tiles.views.count == 1


@pytest.mark.parametrize(("audited", "expected"), [(24, 32), (64, 32), (77, 38)])
def test_half_as_many_views_as_tiles_and_at_least_32(store: Path, audited: int, expected: int) -> None:
    tiles = gate_tiles(TileStore.open(store), np.arange(audited), [], seed=0)
    assert (tiles.indices == np.arange(audited)).all()  # all of them are embedded anyway
    assert len(tiles.looked_for) == tiles.count == expected
    times = np.bincount(tiles.looked_for, minlength=audited)
    assert times.max() - times.min() <= 1


def test_audited_tiles_are_not_embedded_again(store: Path, runs: tuple[Path, Path]) -> None:
    tiles, (encoder, *_) = views(store, runs)
    control, oracle = encoder.randomised(0), Oracle(tiles)
    known_to_it = np.isin(tiles.indices, tiles.audited)
    oracle.answers = torch.cat([oracle.answers[:24][~known_to_it], oracle.answers[24:]])
    audited = torch.zeros(24, 24)
    audited[tiles.indices[known_to_it]] = torch.eye(24)[known_to_it]
    perfect = replace(encoder, model=oracle)
    found = gates([(perfect, control)], tiles, [Embedded(perfect, audited)], 50)["vanilla"]
    assert found.accuracy.encoder == 1 and oracle.seen == 24 - known_to_it.sum() + tiles.count


def test_passes_and_fails(store: Path, runs: tuple[Path, Path]) -> None:
    tiles, encoders = views(store, runs)
    control = encoders[0].randomised(0)
    oracle = replace(encoders[0], model=Oracle(tiles), digest="oracle", name="oracle")
    itself = replace(control, name="itself", random=False)
    found = gates([(oracle, control), (itself, control), (control, control)], tiles, [], 200)
    assert found["oracle"].passed and found["oracle"].accuracy.encoder == 1
    assert found["oracle"].loss == (5.0, 1.0)
    assert known(found["oracle"].over_untrained.low) > 0
    assert not found["itself"].passed
    assert found["itself"].over_untrained == Estimate(0, 0, 0)
    assert found["itself"].loss is None
    assert "not above that of the untrained encoder" in found["itself"].reasons[0]
    assert not found[control.name].passed
    assert found[control.name].reasons == ("its weights are random, so it is its own untrained control",)


def test_encoders_of_the_same_weights_are_judged_each_by_what_it_sees(
    store: Path, runs: tuple[Path, Path]
) -> None:
    tiles, (encoder, *_) = views(store, runs)
    control = encoder.randomised(0)
    oracle = replace(encoder, model=Oracle(tiles), name="oracle")
    found = gates(
        [(oracle, control), (replace(control, name="itself", digest=encoder.digest), control)], tiles, [], 50
    )
    assert found["oracle"].accuracy.encoder == 1 > known(found["itself"].accuracy.encoder)


def test_a_control_that_several_share_is_embedded_once(store: Path, runs: tuple[Path, Path]) -> None:
    tiles, (encoder, *_) = views(store, runs)
    shared = replace(encoder, model=Oracle(tiles), name="shared")
    gates([(replace(encoder, name="a"), shared), (replace(encoder, name="b"), shared)], tiles, [], 50)
    assert isinstance(shared.model, Oracle) and shared.model.seen == 24 + tiles.count


def test_tiles_of_few_slides_count_as_few(
    store: Path, runs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles, (encoder, *_) = views(store, runs)
    gained = np.repeat([1.0, 1.0, 1.0, -0.4, -0.4, -0.4], 4)  # by slide, with nothing between its tiles
    nothing = np.zeros(24)
    by_tiles = _gate(encoder, gained, nothing, nothing, tiles, 1000, 1.0)
    assert by_tiles.interval == IntervalUnits(over="tiles", units=24)
    assert (by_tiles.over_untrained.low or 0) > 0
    slides = np.repeat(list("abcdef"), 4)
    monkeypatch.setattr("dirl.audit.gate.source_slides", lambda store, indices: slides)
    by_slides = _gate(encoder, gained, nothing, nothing, tiles, 1000, 1.0)
    assert by_slides.interval == IntervalUnits(over="slides", units=6) and not by_slides.passed
    drawn = np.random.default_rng(9).choice(gained[::4], (20_000, 6)).mean(1)
    for over in (by_slides.over_untrained, by_slides.over_colour):
        assert over.value == pytest.approx(gained.mean())
        assert [over.low, over.high] == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.1)


def _finished_run(folder: Path, metrics: str) -> None:
    card = claim(folder, new_card("pretrain", {}))
    write_text(folder / "metrics.csv", metrics)
    finish(folder, card, {"steps": 2})


def test_a_loss_that_does_not_fall_fails(store: Path, runs: tuple[Path, Path], tmp_path: Path) -> None:
    tiles, encoders = views(store, runs)
    _finished_run(tmp_path, "step,loss,lr\n0,1.0,1\n1,,1\n2,2.0,1\n")
    oracle = replace(encoders[0], model=Oracle(tiles), digest="oracle", run=tmp_path)
    found = gates([(oracle, encoders[0].randomised(0))], tiles, [], 50)["vanilla"]
    assert found.reasons == ("the loss did not fall (1.000 to 2.000)",)


def test_a_run_that_logged_no_loss_fails(store: Path, runs: tuple[Path, Path], tmp_path: Path) -> None:
    tiles, encoders = views(store, runs)
    _finished_run(tmp_path, "step,lr\n1,1\n")
    oracle = replace(encoders[0], model=Oracle(tiles), digest="oracle", run=tmp_path)
    found = gates([(oracle, encoders[0].randomised(0))], tiles, [], 50)["vanilla"]
    assert found.loss is None and found.reasons == ("the run logged no loss",)


def test_too_few_tiles_fail(store: Path, runs: tuple[Path, Path]) -> None:
    tiles, encoders = views(store, runs)
    few = replace(tiles, indices=np.arange(3))
    found = gates([(encoders[0], encoders[0].randomised(0))], few, [], 50)["vanilla"]
    assert not found.passed and "only 3 held-out tiles" in found.reasons[0]
