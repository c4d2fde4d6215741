"""Overlap of views: the share of a token's footprint that the others show, against pixel by pixel."""

from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dirl.config import ViewsConfig
from dirl.prior.matching import Overlap, Semantic, share_in_others
from dirl.views.batch import make_views


def brute_force(affine, others, size_px, other_px, patch_px):
    """Walk over the centres of the view's pixels, and ask each other view whether it shows that place."""
    side = size_px // patch_px
    counts = np.zeros((side, side))
    for row in range(size_px):
        for column in range(size_px):
            place = affine[:, :2] @ [column + 0.5, row + 0.5] + affine[:, 2]
            seen = [np.linalg.solve(o[:, :2], place - o[:, 2]) for o in others]
            counts[row // patch_px, column // patch_px] += all(
                (p >= 0).all() and (p < other_px).all() for p in seen
            )
    return counts / patch_px**2


@given(seed=st.integers(0, 2**31), rotation=st.sampled_from(["quarter", "any"]), count=st.integers(2, 3))
@settings(max_examples=8, deadline=None)
def test_overlap_is_what_the_other_views_show(seed, rotation, count):
    images = torch.zeros(2, 3, 48, 48, dtype=torch.uint8)
    regions = torch.ones(2, 48, 48, dtype=torch.uint8)
    config = ViewsConfig(
        count=count, size_px=24, local_count=1, local_size_px=16, rotation=rotation, crop_area=(0.2, 0.6)
    )
    groups = make_views(images, np.arange(2), config, seed=seed)
    found = Overlap(2, 0.01).coverage(regions, groups, np.arange(2), 8)
    plain = Semantic(2, 0.01).coverage(regions, groups, np.arange(2), 8)
    whole = groups[0].affines
    for group, share, before, size in zip(groups, found, plain, (24, 16), strict=True):
        for view, affines in enumerate(group.affines):
            for tile in range(2):
                others = [o[tile] for v, o in enumerate(whole) if size == 16 or v != view]
                expected = brute_force(affines[tile], others, size, 24, 8) * before[view, tile, 0].numpy()
                # A centre on the very border may fall to either side.
                np.testing.assert_allclose(share[view, tile, 0], expected, atol=2.1 / 64)


def test_the_same_crop_overlaps_wholly_and_distant_ones_not_at_all():
    near = np.array([[[1.0, 0, 3], [0, 1, 5]]])
    far = near + np.array([[0, 0, 100], [0, 0, 0]])
    sizes: dict[str, Any] = {"size_px": 16, "other_px": 16, "patch_px": 8, "device": torch.device("cpu")}
    assert (share_in_others(near, near[None], **sizes) == 1).all()
    assert (share_in_others(near, far[None], **sizes) == 0).all()
    half = near + np.array([[0, 0, 4], [0, 0, 0]])
    assert share_in_others(near, half[None], **sizes)[0].tolist() == [[0.5, 1], [0.5, 1]]
