"""Block masks: how much they mask, what they depend on, and that they are blocks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dirl.core.errors import ConfigError
from dirl.views.masking import block_masks


@given(
    seed=st.integers(0, 2**31),
    grid=st.tuples(st.integers(3, 16), st.integers(3, 16)),
    low=st.floats(0, 0.5),
    width=st.floats(0.2, 0.5),
)
@settings(max_examples=40, deadline=None)
def test_the_masked_share_lies_in_its_range(seed, grid, low, width):
    masks = block_masks(seed, np.arange(20), grid, (low, low + width), 1.0)
    assert masks.shape == (20, *grid) and masks.dtype == torch.bool
    share = masks.float().mean(dim=(1, 2))
    assert share.min() >= low - 1e-6 and share.max() <= low + width + 1e-6


def test_shares_are_uniform_and_so_many_images_are_masked():
    masks = block_masks(0, np.arange(4000), (14, 14), (0.1, 0.5), 0.5)
    share = masks.float().mean(dim=(1, 2))
    assert abs((share > 0).float().mean() - 0.5) < 0.03
    assert abs(share[share > 0].mean() - 0.3) < 0.01
    assert abs(share[share > 0].std() - 0.4 / np.sqrt(12)) < 0.01
    # Fewest rectangles reach the corners; there are as many on one side as on the other.
    often = masks[share > 0].float().mean(dim=0)
    assert often.min() > 0.02 and often.max() < 0.6
    assert (often - often.flip(0)).abs().max() < 0.05 and (often - often.flip(1)).abs().max() < 0.05


def test_a_mask_depends_on_seed_and_counter_alone():
    whole = block_masks(3, [10, 20, 30], (8, 8), (0.2, 0.5), 1.0)
    assert torch.equal(whole[1:2], block_masks(3, [20], (8, 8), (0.2, 0.5), 1.0))
    assert not torch.equal(whole, block_masks(4, [10, 20, 30], (8, 8), (0.2, 0.5), 1.0))


def test_probability_zero_masks_nothing():
    assert not block_masks(0, np.arange(9), (8, 8), (0.1, 0.5), 0.0).any()


def test_masks_are_blocks_as_lightlys_are():
    """Borders between masked and other tokens, for each masked one, as in an independent implementation."""
    from lightly.models.utils import random_block_mask

    def border(masks):
        masks = masks[masks.any(dim=2).any(dim=1)].float()
        length = (masks.diff(dim=1).abs().sum(dim=(1, 2))) + masks.diff(dim=2).abs().sum(dim=(1, 2))
        return (length / masks.sum(dim=(1, 2))).mean()

    ours = border(block_masks(0, np.arange(400), (14, 14), (0.1, 0.5), 1.0))
    theirs = border(random_block_mask((200, 14, 14), 1.0, 0.1, 0.5))
    assert abs(ours - theirs) < 0.12
    assert ours < 0.5 * border(torch.rand(400, 14, 14) < 0.3)


def test_a_range_without_a_whole_number_of_tokens_is_refused():
    with pytest.raises(ConfigError, match="no whole number of the 9 tokens"):
        block_masks(0, [0], (3, 3), (0.01, 0.1), 1.0)
