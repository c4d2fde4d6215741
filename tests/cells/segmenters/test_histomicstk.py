"""HistomicsTK behind dirl's protocol, where it is installed."""

from importlib.util import find_spec

import numpy as np
import pytest

from dirl import synthetic
from dirl.cells.registry import load_segmenter
from dirl.cells.scoring.metrics import score_nuclei
from dirl.core.errors import ConfigError
from tests.segmenter_cases import load_for_images

pytestmark = [
    pytest.mark.skipif(find_spec("histomicstk") is None, reason="needs HistomicsTK: docs/howto/cells.md"),
    pytest.mark.filterwarnings("ignore"),  # of its libraries
]


def test_it_finds_drawn_nuclei_where_they_are():
    slide = synthetic.draw(1, (512, 512))
    segmenter = load_for_images("histomicstk", device="cpu", batch_size=4)
    (mask,) = segmenter.fit([slide.rgb], 0.5)([slide.rgb])
    assert mask.labels.shape == (512, 512) and mask.classes is None and mask.digest == segmenter.digest
    right = score_nuclei(mask.labels, slide.labels).dice
    assert right > 0.5
    for shift, axis in ((4, 0), (-4, 0), (4, 1), (-4, 1)):
        assert score_nuclei(np.roll(mask.labels, shift, axis), slide.labels).dice < right


def test_glass_has_no_nuclei():
    glass = np.full((64, 64, 3), 240, np.uint8)
    assert len(load_for_images("histomicstk").fit([], 0.5)([glass])[0]) == 0


def test_its_settings_are_options_and_change_its_digest():
    stricter = load_segmenter("histomicstk,foreground_threshold=50")
    assert stricter.digest != load_segmenter("histomicstk").digest
    with pytest.raises(ConfigError, match=r"there are: .*least_radius_um"):
        load_segmenter("histomicstk,radius=3")
