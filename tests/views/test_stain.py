"""Stain jitter and swap: only colour changes, nothing at strength 0, and statistics become the partner's."""

import numpy as np
import pytest
import torch
from skimage.color import rgb_from_hed

from dirl.config import ViewsConfig
from dirl.core.randomness import uniforms
from dirl.views import stain
from dirl.views.batch import make_views
from tests.region_views import views_of

PLAIN = {"p_colour": 0.0, "p_grayscale": 0.0, "p_blur": 0.0, "p_flip": 0.0, "rotation": "none"}
WHOLE = PLAIN | {"size_px": 32, "crop_area": (1.0, 1.0), "crop_aspect": (1.0, 1.0)}


def stained(b=4, side=32, seed=0):
    """Tissue everywhere, each tile with stain levels of its own, in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    mean = torch.tensor([0.8, 0.7, 0.2]) + 0.2 * torch.rand(b, 3, generator=generator)
    sd = 0.05 + 0.03 * torch.rand(b, 3, generator=generator)
    amounts = mean[:, None] + sd[:, None] * torch.randn(b, side * side, 3, generator=generator).clamp(-2, 2)
    density = amounts @ torch.from_numpy(stain.STAINS).float()
    return ((torch.exp(-density) * 256 - 1) / 255).transpose(1, 2).reshape(b, 3, side, side)


def test_the_stains_are_unit_vectors_and_the_residual_is_square_to_both():
    np.testing.assert_allclose(np.linalg.norm(stain.STAINS, axis=1), 1)
    np.testing.assert_allclose(stain.STAINS[2] @ stain.STAINS[:2].T, 0, atol=1e-12)
    for ours, theirs in zip(stain.STAINS[:2], rgb_from_hed[:2], strict=True):
        np.testing.assert_allclose(ours, theirs / np.linalg.norm(theirs))


def test_no_jitter_is_the_identity():
    images = torch.rand(5, 3, 16, 16)
    out = stain.restain(images, uniforms(0, np.arange(5), stain.DRAWS), ViewsConfig(), None)
    torch.testing.assert_close(out, images, atol=2e-6, rtol=0)


def test_a_factor_scales_the_amount_of_its_stain_alone():
    images = stained()
    draws = np.full((4, stain.DRAWS), 0.5)
    draws[:, 0] = 1.0
    out = stain.restain(images, draws, ViewsConfig(stain_jitter=0.2), None)
    (mean, sd), (new_mean, new_sd) = stain.measure_stains(images), stain.measure_stains(out)
    torch.testing.assert_close(new_mean[:, 0], 1.2 * mean[:, 0], rtol=1e-4, atol=0)
    torch.testing.assert_close(new_sd[:, 0], 1.2 * sd[:, 0], rtol=1e-3, atol=0)
    torch.testing.assert_close(new_mean[:, 1:], mean[:, 1:], rtol=1e-4, atol=1e-5)


def test_glass_stays_glass():
    images = torch.ones(2, 3, 8, 8)
    config = ViewsConfig(stain_jitter=0.9)
    for seed in range(5):
        out = stain.restain(images, uniforms(seed, [0, 1], stain.DRAWS), config, None)
        torch.testing.assert_close(out, images, atol=1e-5, rtol=0)


def test_levels_are_those_of_the_tissue():
    images = stained()
    half = images.clone()
    half[:, :, :16] = 0.98
    mean, sd = stain.measure_stains(half)
    expected_mean, expected_sd = stain.measure_stains(images[:, :, 16:])
    torch.testing.assert_close(mean, expected_mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(sd, expected_sd, rtol=1e-3, atol=1e-5)
    assert stain.measure_stains(torch.ones(1, 3, 8, 8)).isnan().all()


def test_a_swap_gives_the_partners_statistics():
    images = stained(b=2)
    draws = uniforms(0, [0, 1], stain.DRAWS)
    levels = stain.measure_stains(images)
    out = stain.restain(images, draws, ViewsConfig(p_stain_swap=1.0), levels)
    torch.testing.assert_close(stain.measure_stains(out), levels.flip(1), rtol=1e-3, atol=1e-4)
    still = stain.restain(images, draws, ViewsConfig(p_stain_swap=0.0), levels)
    torch.testing.assert_close(still, images, atol=2e-6, rtol=0)


def test_partners_are_others_drawn_evenly():
    count = 5
    levels = torch.stack([torch.arange(1.0, count + 1)[:, None].expand(-1, 3), torch.ones(count, 3)])
    taken = np.zeros((count, count))
    for seed in range(400):
        stretch, move = stain._swap(levels, uniforms(seed, np.arange(count), 2))
        other = (move + stretch * levels[0])[:, 0].round().long() - 1
        taken[np.arange(count), other] += 1
    assert (np.diag(taken) == 0).all()
    assert taken[~np.eye(count, dtype=bool)].min() > 60


def test_a_tile_of_glass_neither_takes_nor_gives():
    images = stained(b=2)
    images[1] = 0.99
    out = stain.restain(
        images, uniforms(0, [0, 1], stain.DRAWS), ViewsConfig(p_stain_swap=1.0), stain.measure_stains(images)
    )
    torch.testing.assert_close(out, images, atol=1e-5, rtol=0)


def test_a_batch_of_one_has_nobody_to_swap_with():
    images = (stained(b=1) * 255).to(torch.uint8)
    still, swapped = (
        make_views(images, np.array([0]), ViewsConfig(p_stain_swap=p, **WHOLE), seed=0)[0].images
        for p in (0.0, 1.0)
    )
    torch.testing.assert_close(swapped, still, atol=1e-5, rtol=0)


@pytest.mark.parametrize("change", [{"stain_jitter": 0.3}, {"p_stain_swap": 1.0}])
def test_only_colour_changes(change):
    images = (stained() * 255).to(torch.uint8)
    regions = torch.randint(0, 3, (4, 32, 32), dtype=torch.uint8)
    config = ViewsConfig(size_px=32, local_count=1, local_size_px=16, p_blur=0.0)
    samples = np.arange(4)
    before = views_of(images, regions, samples, config, seed=1, patch_px=8)
    changed = config.model_copy(update=change)
    after = views_of(images, regions, samples, changed, seed=1, patch_px=8)
    for a, b in zip(before, after, strict=True):
        assert not torch.allclose(a.images, b.images, atol=0.02)
        assert torch.equal(a.coverage, b.coverage) and torch.equal(a.valid, b.valid)
        assert np.array_equal(a.affines, b.affines)
        assert b.images.min() >= 0 and b.images.max() <= 1


def test_what_was_equal_stays_equal():
    """A map of colours: two pixels of one colour never differ afterwards."""
    images = stained(b=2, side=8).repeat(1, 1, 2, 2)
    draws = uniforms(0, [0, 1], stain.DRAWS)
    config = ViewsConfig(stain_jitter=0.5, p_stain_swap=1.0)
    out = stain.restain(images, draws, config, stain.measure_stains(images))
    torch.testing.assert_close(out[:, :, :8, :8], out[:, :, 8:, 8:])


def test_jitter_depends_on_seed_and_sample_alone_and_differs_between_views():
    images = (stained() * 255).to(torch.uint8)
    config = ViewsConfig(stain_jitter=0.3, **WHOLE)
    (whole,) = make_views(images, np.array([3, 1, 4, 9]), config, seed=0)
    (part,) = make_views(images[2:3], np.array([4]), config, seed=0)
    torch.testing.assert_close(whole.images[:, 2:3], part.images)
    assert not torch.allclose(whole.images[0], whole.images[1], atol=0.02)


def test_autocast_does_not_coarsen_the_stains():
    images, draws = stained(), uniforms(0, np.arange(4), stain.DRAWS)
    config = ViewsConfig(stain_jitter=0.3, p_stain_swap=1.0)
    expected = stain.restain(images, draws, config, stain.measure_stains(images))
    with torch.autocast("cpu", torch.bfloat16):
        found = stain.restain(images, draws, config, stain.measure_stains(images))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)
