"""Views: image and regions stay together, coverage is exact, and nothing depends on the batch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dirl.config import ViewsConfig
from dirl.core.randomness import uniforms
from dirl.prior.coverage import coverage, prior_contrast
from dirl.views import geometry
from dirl.views.batch import make_views
from dirl.views.colour import augment_colour, gaussian_blur
from tests.region_views import views_of

PLAIN = {"p_colour": 0.0, "p_grayscale": 0.0, "p_blur": 0.0}
seeds = st.integers(0, 2**31)


def tiles(b=3, size=48, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (b, 3, size, size), dtype=torch.uint8, generator=generator)
    regions = torch.randint(0, 3, (b, size, size), dtype=torch.uint8, generator=generator)
    return images, regions


@given(seed=seeds, size=st.sampled_from([16, 32, 48]), low=st.floats(0.1, 1.0))
@settings(max_examples=25, deadline=None)
def test_coverage_sums_to_at_most_one_and_crops_stay_inside(seed, size, low):
    images, regions = tiles(seed=seed % 100)
    config = ViewsConfig(size_px=size, crop_area=(low, 1.0))
    views = views_of(images, regions, np.arange(3), config, seed=seed, patch_px=8)[0]
    assert views.images.shape == (2, 3, 3, size, size)
    assert views.coverage.shape == (2, 3, 2, size // 8, size // 8)
    assert views.coverage.sum(dim=2).max() <= 1
    assert (views.valid == 1).all()
    assert views.images.min() >= 0 and views.images.max() <= 1


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_coverage_counts_pixels_exactly(seed):
    ids = torch.randint(0, 4, (2, 24, 16), generator=torch.Generator().manual_seed(seed))
    share = coverage(ids, 3, 8)
    for region in range(3):
        for row in range(3):
            for column in range(2):
                patch = ids[:, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
                expected = (patch == region + 1).sum(dim=(1, 2)) / 64
                assert (share[:, region, row, column] == expected).all()


@given(seed=seeds)
@settings(max_examples=25, deadline=None)
def test_image_and_regions_travel_together(seed):
    """An image painted with its own region ids shows, at any crop, the coverage that is reported."""
    smooth = torch.nn.functional.interpolate(
        torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(seed)), 64
    )
    regions = ((smooth[:, 0] > 0.5).to(torch.uint8)) + 1
    images = ((regions == 1)[:, None] * 255).to(torch.uint8).expand(-1, 3, -1, -1)
    config = ViewsConfig(size_px=64, crop_area=(0.3, 1.0), **PLAIN)
    views = views_of(images, regions, np.arange(4), config, seed=seed, patch_px=8)[0]
    painted = views.images[:, :, 0].unfold(2, 8, 8).unfold(3, 8, 8).mean(dim=(-1, -2))
    assert (painted - views.coverage[:, :, 0]).abs().max() < 0.15


@given(seed=seeds, quarter=st.integers(0, 3), flip=st.booleans())
@settings(max_examples=20, deadline=None)
def test_whole_tile_views_are_flips_and_quarter_turns(seed, quarter, flip):
    images, regions = tiles(1, 32, seed % 1000)
    draws = np.array([[0.5, 0.5, 0.3, 0.7, 0.0 if flip else 0.9, (quarter + 0.5) / 4, 0.5]])
    config = ViewsConfig(crop_aspect=(1.0, 1.0))
    affines = geometry.draw_affines(draws, (32, 32), config, crop_area=(1.0, 1.0), size_px=32)
    view = geometry.sample_images(images.float(), affines, 32)
    ids, inside = geometry.sample_regions(regions, torch.from_numpy(affines).float(), 32)
    assert inside.all()
    expected_ids = np.rot90(regions[0].numpy(), quarter)
    expected = np.rot90(images[0].numpy(), quarter, axes=(1, 2))
    if flip:
        expected_ids, expected = expected_ids[:, ::-1], expected[:, :, ::-1]
    np.testing.assert_array_equal(ids[0].numpy(), expected_ids)
    np.testing.assert_allclose(view[0].numpy(), expected, atol=0.02)


def test_what_lies_outside_the_tile_is_not_valid_and_belongs_to_no_region():
    regions = torch.ones(1, 16, 16, dtype=torch.uint8)
    affine = torch.tensor([[[1.0, 0, -8.0], [0, 1.0, 0]]])
    ids, inside = geometry.sample_regions(regions, affine, 16)
    assert not inside[0, :, :8].any() and inside[0, :, 8:].all()
    assert (ids[0, :, :8] == 0).all() and (ids[0, :, 8:] == 1).all()


def test_a_minified_view_is_the_mean_of_what_it_shows():
    images, _ = tiles(2, 48)
    identity = np.tile([[[3.0, 0, 0], [0, 3.0, 0]]], (2, 1, 1))
    view = geometry.sample_images(images.float(), identity, 16)
    torch.testing.assert_close(view, torch.nn.functional.avg_pool2d(images.float(), 3), atol=0.05, rtol=0)


def test_a_view_depends_on_seed_and_sample_alone():
    images, regions = tiles(4)
    config = ViewsConfig(size_px=32)
    whole = views_of(images, regions, np.array([5, 9, 2, 7]), config, seed=1, patch_px=8)[0]
    part = views_of(images[2:3], regions[2:3], np.array([2]), config, seed=1, patch_px=8)[0]
    torch.testing.assert_close(whole.images[:, 2:3], part.images)
    assert (whole.coverage[:, 2:3] == part.coverage).all()
    other = views_of(images, regions, np.array([5, 9, 2, 7]), config, seed=2, patch_px=8)[0]
    assert not torch.equal(whole.images, other.images)
    assert not torch.equal(whole.images[0], whole.images[1])


def test_images_are_the_same_with_and_without_regions():
    images, regions = tiles(4)
    config = ViewsConfig(size_px=32)
    with_regions = views_of(images, regions, np.arange(4), config, seed=1, patch_px=8)[0]
    without = make_views(images, np.arange(4), config, seed=1)[0]
    assert torch.equal(with_regions.images, without.images)


def test_colour_without_any_strength_changes_nothing():
    images = torch.rand(5, 3, 16, 16)
    still = ViewsConfig(**PLAIN)
    torch.testing.assert_close(
        augment_colour(images, uniforms(0, np.arange(5), 9), still), images, atol=1e-5, rtol=0
    )


def test_grayscale_has_equal_channels_and_keeps_luma():
    images = torch.rand(3, 3, 8, 8)
    config = ViewsConfig(p_colour=0, p_grayscale=1, p_blur=0)
    gray = augment_colour(images, uniforms(0, np.arange(3), 9), config)
    luma = (images * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1)
    for channel in range(3):
        torch.testing.assert_close(gray[:, channel], luma, atol=1e-2, rtol=0)


def test_solarise_turns_the_bright_half():
    images = torch.tensor([0.2, 0.9]).view(1, 1, 1, 2).expand(1, 3, 8, 2).contiguous()
    out = augment_colour(images, uniforms(0, [0], 9), ViewsConfig(**PLAIN, p_solarise=1.0))
    torch.testing.assert_close(out[0, 0, 0], torch.tensor([0.2, 0.1]), atol=1e-5, rtol=0)


def test_blur_is_scipys():
    from scipy.ndimage import gaussian_filter

    images = torch.rand(2, 3, 24, 24)
    sigma = np.array([0.7, 1.5])
    blurred = gaussian_blur(images, sigma, 1.5)
    for i in range(2):
        expected = gaussian_filter(
            images[i].numpy(), (0, sigma[i], sigma[i]), mode="mirror", radius=(0, 5, 5)
        )
        np.testing.assert_allclose(blurred[i].numpy(), expected, atol=1e-5)


def test_view_mpp_of_a_twofold_enlargement():
    affine = np.array([[[0, -0.5, 3], [0.5, 0, 1.0]]])
    assert geometry.view_mpp(affine, 0.5) == pytest.approx(0.25)


def test_prior_contrast_extremes():
    assert prior_contrast(torch.tensor([0.0, 1.0, 1.0])).item() == pytest.approx(1)
    assert prior_contrast(torch.full((5,), 0.3)).item() == pytest.approx(0, abs=1e-6)


def test_the_default_views_of_a_sample_are_what_they_always_were():
    """Numbers of version 0.1: a new quantity must not move those that were there."""
    ramp = torch.from_numpy((np.indices((96, 96)).sum(axis=0) * (255 / 190)).astype(np.uint8))
    (views,) = views_of(
        ramp.expand(2, 3, -1, -1),
        (ramp // 86).expand(2, -1, -1),
        np.array([3, 1000]),
        ViewsConfig(size_px=48),
        seed=5,
        patch_px=16,
    )
    expected = [
        [0, -1.51139861, 92.23650578, 1.42971309, 0, 21.00036404],
        [0, -1.57698895, 77.86693016, -1.80348489, 0, 87.78982343],
        [1.65822855, 0, 8.5052987, 0, 1.34667843, 25.80092076],
        [0, -1.80172404, 86.69018775, -1.44534779, 0, 79.47860506],
    ]
    np.testing.assert_allclose(views.affines.reshape(4, 6), expected, atol=1e-8)
    np.testing.assert_allclose(
        views.images.mean(dim=(2, 3, 4)), [[0.6376, 0.3654], [0.5530, 0.4572]], atol=1e-3
    )
    np.testing.assert_allclose(
        views.coverage.mean(dim=(3, 4)),
        [[[0.6632, 0.2756], [0.6050, 0.1003]], [[0.6714, 0.2335], [0.6350, 0.1111]]],
        atol=1e-3,
    )


def test_local_views_follow_the_global_ones_and_leave_them_as_they_are():
    images, regions = tiles(4)
    alone = views_of(images, regions, np.arange(4), ViewsConfig(size_px=32), seed=1, patch_px=8)
    config = ViewsConfig(size_px=32, local_count=3, local_size_px=16)
    whole, local = views_of(images, regions, np.arange(4), config, seed=1, patch_px=8)
    assert torch.equal(whole.images, alone[0].images) and torch.equal(whole.coverage, alone[0].coverage)
    assert local.images.shape == (3, 4, 3, 16, 16) and local.coverage.shape == (3, 4, 2, 2, 2)
    assert local.valid.shape == (3, 4, 2, 2)
    area = np.abs(np.linalg.det(local.affines[..., :2])) * 16**2 / 48**2
    assert area.min() >= 0.05 - 1e-9 and area.max() <= 0.3 + 1e-9
    assert len(np.unique(local.affines.reshape(12, 6), axis=0)) == 12


def test_mpp_jitter_scales_the_crop_within_its_range():
    draws = uniforms(0, np.arange(500), geometry.DRAWS)
    sides = {}
    for jitter in (0.0, 0.5):
        config = ViewsConfig(mpp_jitter=jitter)
        affines = geometry.draw_affines(draws, (256, 256), config, crop_area=(0.05, 0.2), size_px=32)
        sides[jitter] = geometry.view_mpp(affines, 1.0)
    factor = sides[0.5] / sides[0.0]
    assert 1 / 1.5 <= factor.min() < 0.7 and 1.45 < factor.max() <= 1.5
    assert abs(np.log(factor).mean()) < 0.03


@pytest.mark.parametrize("rotation", ["none", "quarter", "any"])
def test_a_crop_stays_inside_the_tile_however_its_mpp_is_jittered(rotation):
    draws = uniforms(1, np.arange(500), geometry.DRAWS)
    config = ViewsConfig(mpp_jitter=1.0, rotation=rotation)
    affines = geometry.draw_affines(draws, (96, 64), config, crop_area=(0.3, 1.0), size_px=32)
    corners = affines[:, :, :2] @ np.array([[0, 0, 32, 32], [0, 32, 0, 32]]) + affines[:, :, 2:]
    assert corners.min() > -1e-9
    assert corners[:, 0].max() < 64 + 1e-9 and corners[:, 1].max() < 96 + 1e-9


def test_blur_and_solarise_may_differ_between_views():
    images = torch.full((3, 3, 48, 48), 200, dtype=torch.uint8)
    plain = PLAIN | {"p_blur": (0.0, 1.0, 0.0)}
    config = ViewsConfig(size_px=32, local_count=2, local_size_px=16, p_solarise=(0.0, 1.0, 1.0), **plain)
    whole, local = make_views(images, np.arange(3), config, seed=0)
    torch.testing.assert_close(whole.images[0], torch.full_like(whole.images[0], 200 / 255))
    torch.testing.assert_close(whole.images[1], torch.full_like(whole.images[1], 55 / 255))
    torch.testing.assert_close(local.images, torch.full_like(local.images, 55 / 255))
    images, _ = tiles(3)
    blurred = config.model_copy(update={"p_solarise": 0.0, "blur_sigma_px": (1.0, 1.5)})
    first, second = make_views(images, np.arange(3), blurred, seed=0)[0].images
    assert second.std() < 0.6 * first.std()
