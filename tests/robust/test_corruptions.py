"""Every corruption: what it must leave alone, that it grows, and that it is the tile's own."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import convolve
from scipy.ndimage import rotate as scipy_rotate

from dirl.config import RobustConfig
from dirl.config.stages import Corruption
from dirl.evaluate.robust.conditions import Condition, conditions, rotate
from dirl.evaluate.robust.corruptions import CORRUPTIONS, corrupt


def tissue(side: int = 64, seed: int = 0) -> np.ndarray:
    """Pink with purple blobs, and some texture."""
    generator = np.random.default_rng(seed)
    image = np.full((side, side, 3), (225, 160, 195), float)
    y, x = np.mgrid[:side, :side]
    for cy, cx in generator.uniform(0, side, (12, 2)):
        image[np.hypot(y - cy, x - cx) < 4] = (110, 70, 150)
    return np.clip(image + generator.normal(0, 6, image.shape), 0, 255).astype(np.uint8)


def damaged(image: np.ndarray, kind: Corruption, severity: int, key: int = 7) -> np.ndarray:
    return corrupt(image, kind, severity, np.random.default_rng(key))


def test_a_recipe_names_every_corruption() -> None:
    assert RobustConfig().corruptions == tuple(CORRUPTIONS)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_each_severity_moves_further_from_the_clean_tile(kind: Corruption) -> None:
    image = tissue()
    changes = [
        np.mean([np.abs(damaged(image, kind, s, key).astype(float) - image).mean() for key in range(4)])
        for s in RobustConfig().severities
    ]
    assert changes[0] > 0
    assert all(later > earlier for earlier, later in pairwise(changes)), changes


@given(
    kind=st.sampled_from(sorted(CORRUPTIONS)),
    severity=st.sampled_from(RobustConfig().severities),
    seed=st.integers(0, 99),
)
def test_the_same_tile_is_damaged_in_the_same_way_and_in_place(
    kind: Corruption, severity: int, seed: int
) -> None:
    image = tissue(32, seed)
    before = image.copy()
    condition = Condition(kind, severity)
    once, again = (condition.apply(image, f"tile {seed}", 0) for _ in range(2))
    assert once.dtype == np.uint8 and once.shape == image.shape
    np.testing.assert_array_equal(once, again)
    np.testing.assert_array_equal(image, before)


def test_another_tile_or_seed_draws_otherwise() -> None:
    image, condition = tissue(), Condition("pen", 3)
    first = condition.apply(image, "a", 0)
    assert (condition.apply(image, "b", 0) != first).any()
    assert (condition.apply(image, "a", 1) != first).any()


@pytest.mark.parametrize("kind", ["defocus", "motion", "pixelate"])
def test_blurring_leaves_an_even_tile_as_it_is(kind: Corruption) -> None:
    even = np.full((48, 48, 3), (200, 120, 170), np.uint8)
    for severity in RobustConfig().severities:
        np.testing.assert_array_equal(damaged(even, kind, severity), even)


def test_a_defocused_point_is_a_disc() -> None:
    image = np.zeros((41, 41, 3), np.uint8)
    image[20, 20] = 255
    shown = damaged(image, "defocus", 5)[..., 0].astype(float)
    y, x = np.mgrid[:41, :41] - 20
    distance = np.hypot(y, x)
    assert (shown[distance > 5.6] == 0).all()
    inside = shown[distance <= 4.5]
    assert inside.min() == inside.max() > 0


def test_motion_is_the_convolution_with_a_line() -> None:
    image = tissue()
    kernel = np.zeros((41, 41, 3), np.uint8)
    kernel[20, 20] = 255
    streak = damaged(kernel, "motion", 4)[..., 0].astype(float)
    assert np.linalg.matrix_rank(streak > 0) >= 1 and 9 < (streak > 0).sum() < 60
    expected = convolve(image[..., 1].astype(float), streak / streak.sum(), mode="mirror")
    inner = slice(12, -12)
    off = np.abs(expected - damaged(image, "motion", 4)[..., 1])[inner, inner]
    assert off.mean() < 2.0


def test_hue_turns_and_saturation_fades() -> None:
    grey = np.full((16, 16, 3), 140, np.uint8)
    for kind in ("hue", "saturation"):
        np.testing.assert_allclose(damaged(grey, kind, 5), grey, atol=1)


def test_a_shift_of_stain_leaves_glass_alone() -> None:
    glass = np.full((16, 16, 3), 255, np.uint8)
    np.testing.assert_array_equal(damaged(glass, "stain", 5), glass)


def test_pens_and_bubbles_leave_the_rest_of_the_tile() -> None:
    image = tissue()
    for kind in ("pen", "bubble"):
        same = (damaged(image, kind, 2) == image).all(axis=2)
        assert 0.5 < same.mean() < 1


def test_quarter_turns_move_pixels_and_change_none() -> None:
    image = tissue()
    discs = [rotate(image, angle) for angle in (0, 90, 180, 270)]
    for turns, disc in enumerate(discs):
        np.testing.assert_array_equal(np.rot90(discs[0], turns), disc)
    y, x = np.mgrid[:64, :64] - 31.5
    inside = np.hypot(y, x) <= 32
    np.testing.assert_array_equal(discs[0][inside], image[inside])
    assert (discs[0][~inside] == 255).all()


def test_other_angles_turn_in_the_same_sense() -> None:
    image = np.repeat(np.repeat(tissue(16), 4, axis=0), 4, axis=1)
    ours = rotate(image, 30)[..., 0].astype(float)
    theirs = scipy_rotate(image[..., 0].astype(float), 30, reshape=False, order=3)
    y, x = np.mgrid[:64, :64] - 31.5
    inside = np.hypot(y, x) < 28
    assert np.corrcoef(ours[inside], theirs[inside])[0, 1] > 0.97


def test_all_conditions_have_their_base_among_them() -> None:
    all_of_them = conditions(RobustConfig())
    assert len(set(all_of_them)) == len(all_of_them) == 1 + 10 * 5 + 12
    assert all(condition.base in all_of_them for condition in all_of_them)
    assert {str(c) for c in all_of_them if c.base == c} == {"clean-0", "rotation-0"}
