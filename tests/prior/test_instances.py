"""Nuclei followed through the views: seen at least half, never too many, and counted exactly."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dirl.config import ViewsConfig
from dirl.prior.coverage import coverage
from dirl.prior.matching import Instance, choose_nuclei, visible_share
from dirl.views import geometry
from dirl.views.batch import make_views

CONFIG = ViewsConfig(size_px=48, local_count=2, local_size_px=24, rotation="any", crop_area=(0.2, 0.9))


def nuclei(seed, b=3, side=64):
    """Numbers of square nuclei of several sizes, none twice in a tile."""
    generator = np.random.default_rng(seed)
    labels = np.zeros((b, side, side), np.int32)
    for tile in labels:
        places = [(y, x) for y in range(0, side, 12) for x in range(0, side, 12) if generator.random() < 0.7]
        for number, (y, x) in enumerate(places, start=1):
            size = generator.integers(3, 11)
            tile[y : y + size, x : x + size] = number
    return torch.from_numpy(labels)


def share_shown(labels, affine, size_px, number):
    """Ask every pixel of a nucleus whether the view shows it."""
    pixels = np.argwhere(labels.numpy() == number)[:, ::-1] + 0.5
    places = np.linalg.solve(affine[:, :2], pixels.T - affine[:, 2:])
    return ((places >= 0) & (places < size_px)).all(axis=0).mean() if len(pixels) else 0.0


@given(seed=st.integers(0, 2**31), most=st.integers(1, 30))
@settings(max_examples=10, deadline=None)
def test_chosen_nuclei_are_seen_half_in_every_global_view(seed, most):
    labels = nuclei(seed)
    images = torch.zeros(3, 3, 64, 64, dtype=torch.uint8)
    samples = np.array([4, 9, 1])
    groups = make_views(images, samples, CONFIG, seed=seed)
    found = Instance(most, seed).coverage(labels, groups, samples, 8)
    affines = groups[0].affines
    slots = choose_nuclei(labels, affines, 48, most, seed=seed, samples=samples)
    for tile in range(3):
        numbers = labels[tile].unique()[1:].tolist()
        shares = {n: min(share_shown(labels[tile], a[tile], 48, n) for a in affines) for n in numbers}
        chosen = {n: set(slots[tile][labels[tile] == n].tolist()) for n in numbers}
        taken = [n for n, slot in chosen.items() if slot != {0}]
        # One slot to a nucleus, the first ones without a gap.
        assert sorted(next(iter(chosen[n])) for n in taken) == list(range(1, len(taken) + 1))
        # A pixel's centre may lie on a view's very border.
        assert all(shares[n] >= 0.5 - 0.07 for n in taken)
        sure = sum(share > 0.57 for share in shares.values())
        assert min(most, sure) <= len(taken) <= most
    for group, share, size in zip(groups, found, (48, 24), strict=True):
        assert share.shape[2] == most
        for view, places in enumerate(group.affines):
            seen, _ = geometry.sample_regions(slots, torch.from_numpy(places.astype(np.float32)), size)
            expected = coverage(seen, most, 8)
            if size == 24:
                enough = visible_share(slots, places, 24, most) >= 0.5
                expected[~enough] = 0
            assert torch.equal(share[view], expected)
            assert share[view].sum(dim=1).max() <= 1


def test_the_share_that_a_view_shows_is_counted_over_the_tile():
    labels = nuclei(0)
    images = torch.zeros(3, 3, 64, 64, dtype=torch.uint8)
    (views, _) = make_views(images, np.arange(3), CONFIG, seed=2)
    count = int(labels.max()) + 3
    found = visible_share(labels, views.affines[0], 48, count)
    assert found.shape == (3, count) and (found[:, -3:] == 0).all()
    for tile in range(3):
        for number in range(1, count + 1):
            expected = share_shown(labels[tile], views.affines[0, tile], 48, number)
            assert abs(found[tile, number - 1] - expected) < 0.12


def test_the_choice_depends_on_seed_and_sample_not_on_the_batch():
    labels = nuclei(1, b=4)
    affines = np.tile([[[[1.0, 0, 0], [0, 1.0, 0]]]], (2, 4, 1, 1))
    samples = np.array([5, 6, 7, 8])
    whole = choose_nuclei(labels, affines, 64, 4, seed=0, samples=samples)
    part = choose_nuclei(labels[2:3], affines[:, 2:3], 64, 4, seed=0, samples=samples[2:3])
    assert torch.equal(whole[2:3], part)
    assert not torch.equal(whole, choose_nuclei(labels, affines, 64, 4, seed=0, samples=samples + 4))
    assert not torch.equal(whole, choose_nuclei(labels, affines, 64, 4, seed=1, samples=samples))


def test_every_nucleus_is_chosen_equally_often():
    labels = torch.arange(1, 9).repeat_interleave(8).expand(2000, 8, 64)
    affines = np.tile([[[1.0, 0, 0], [0, 1.0, 0]]], (1, 2000, 1, 1))
    slots = choose_nuclei(labels, affines, 64, 2, seed=0, samples=np.arange(2000))
    often = (slots[:, 0, ::8] > 0).float().mean(dim=0)
    assert (often - 0.25).abs().max() < 0.04


def test_a_tile_without_nuclei_has_empty_slots():
    labels = torch.zeros(2, 64, 64, dtype=torch.int32)
    images = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    views = make_views(images, np.arange(2), CONFIG, seed=0)
    for share in Instance(3, 0).coverage(labels, views, np.arange(2), 8):
        assert share.shape[2] == 3 and (share == 0).all()
