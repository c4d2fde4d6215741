"""Tiles of one stain fall into one group, whatever the number of their nuclei."""

import numpy as np

from dirl.cells.segmenters.stain_groups import stain_groups
from dirl.synthetic import draw


def test_tiles_of_differently_stained_slides_part():
    rgb = draw(3, (640, 640)).rgb
    pale = (255 - (255 - rgb.astype(float)) * 0.45).astype(np.uint8)
    tiles, slide = [], []
    for y in range(100, 500, 45):
        for x in range(100, 500, 45):
            for number, source in enumerate((rgb, pale)):
                tiles.append(source[y : y + 96, x : x + 96])
                slide.append(number)
    groups, slides = stain_groups(tiles), np.array(slide)
    assert groups.min() == 0 and len(np.unique(groups)) == groups.max() + 1 > 1
    for group in np.unique(groups):
        assert len(np.unique(slides[groups == group])) == 1


def test_few_tiles_are_one_group_and_glass_is_no_reason_to_fail():
    glass = np.full((64, 64, 3), 244, np.uint8)
    assert stain_groups([glass] * 3).tolist() == [0, 0, 0]
    assert len(stain_groups([glass] * 100)) == 100
