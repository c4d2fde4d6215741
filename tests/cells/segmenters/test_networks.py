"""What network segmenters share: orientation, scale, batches, classes by vote."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from dirl.cells.scoring.metrics import score_nuclei
from dirl.cells.segmenters.network import Network, class_by_vote, equal_batches, find_nuclei
from dirl.cells.segmenters.resample import to_mpp, to_shape
from tests.known import known

SEEN: list[tuple[int, ...]] = []


def predict(windows):
    SEEN.append(windows.shape)
    return list(windows)


def separate(window):
    """Nuclei are dark blobs, of type 1 where they are blue and 2 where they are red; numbers have gaps."""
    labels = ndimage.label(window.max(2) < 200)[0] * 3
    types = np.where(window[..., 2] > window[..., 0], 1, 2) * (labels > 0)
    return labels, types


def network(mpp=0.5, **how):
    return Network(mpp, predict, separate, ("blue", "red"), "0123456789abcdef", **how)


def picture(height=96, width=128, step=1):
    """White with a blue disc and a larger red ellipse, that no flip or transposition maps onto itself."""
    y, x = np.mgrid[: height * step, : width * step] / step + 0.5 / step
    rgb = np.full((height * step, width * step, 3), 240, np.uint8)
    rgb[(y - 30) ** 2 + (x - 40) ** 2 < 144] = 40, 40, 160
    rgb[((y - 66) / 2) ** 2 + (x - 90) ** 2 < 144] = 160, 40, 40
    return rgb


ORIENTATIONS = {
    "as it is": lambda a: a,
    "left to right": lambda a: a[:, ::-1],
    "upside down": lambda a: a[::-1],
    "turned": lambda a: np.rot90(a),
    "transposed": lambda a: np.swapaxes(a, 0, 1),
}


@pytest.mark.parametrize("turn", ORIENTATIONS.values(), ids=ORIENTATIONS)
@pytest.mark.parametrize("mpp", [0.25, 0.5, 1.0])
def test_labels_lie_on_the_nuclei_in_any_orientation_and_scale(turn, mpp):
    """The network works at 0.5; what it finds lies where the window has it, to half of its own pixels."""
    rgb = np.ascontiguousarray(turn(picture(step=round(0.5 / mpp)) if mpp < 1 else picture()[::2, ::2]))
    (mask,) = find_nuclei([rgb], network=network(), mpp=mpp)
    truth, _ = separate(rgb)
    assert mask.labels.shape == rgb.shape[:2] and mask.labels.dtype == np.int32
    assert mask.mpp == mpp and len(mask) == 2
    here, there = (
        np.array(ndimage.center_of_mass(labels > 0, labels, np.unique(labels[labels > 0])))
        for labels in (mask.labels, truth)
    )
    assert np.abs(here - there).max() < 0.5
    assert score_nuclei(mask.labels, truth.astype(np.int32)).dice > 0.97
    # The class of each follows it.
    for number, kind in enumerate(known(mask.classes), start=1):
        pixel = rgb[mask.labels == number].mean(0)
        assert mask.class_names[kind] == ("blue" if pixel[2] > pixel[0] else "red")


def test_windows_of_one_size_go_together_and_none_change_places():
    windows = [picture(96, 128 + 32 * (k % 2)) for k in range(7)]
    for k, window in enumerate(windows):
        window[:10, :10] = 40, 40, 160
        window[0, 0] = k
    one_by_one = [find_nuclei([w], network=network(), mpp=0.5)[0] for w in windows]
    for batch_size, batches in ((1, [1] * 7), (3, [3, 1, 3]), (None, [4, 3])):
        SEEN.clear()
        together = find_nuclei(windows, network=network(batch_size=batch_size), mpp=0.5)
        assert [shape[0] for shape in SEEN] == batches
        for a, b in zip(one_by_one, together, strict=True):
            assert np.array_equal(a.labels, b.labels)
            assert np.array_equal(known(a.classes), known(b.classes))


def test_a_gpu_takes_more_windows_at_a_time():
    windows = [np.zeros((1152, 1152, 3), np.uint8)] * 8
    assert [len(b) for b in equal_batches(windows, None, "cpu")] == [1] * 8
    assert [len(b) for b in equal_batches(windows, None, "cuda")] == [3, 3, 2]


def test_glass_has_no_nuclei():
    (mask,) = find_nuclei([np.full((64, 64, 3), 240, np.uint8)], network=network(), mpp=0.25)
    assert len(mask) == 0 and len(known(mask.classes)) == 0
    assert find_nuclei([], network=network(), mpp=0.25) == []


def test_nuclei_that_shrinking_loses_take_their_class_with_them():
    """Found on an enlarged window, one of a single small pixel may fall between those of the window."""

    def specks(window):
        labels = np.zeros(window.shape[:2], int)
        labels[0, 0], labels[10:20, 10:20] = 1, 2
        return labels, np.where(labels == 1, 1, 2) * (labels > 0)

    speckled = Network(0.25, predict, specks, ("lost", "kept"), "0123456789abcdef")
    (mask,) = find_nuclei([np.zeros((32, 32, 3), np.uint8)], network=speckled, mpp=1.0)
    assert len(mask) == 1
    assert [mask.class_names[c] for c in known(mask.classes)] == ["kept"]


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([0.2, 0.25, 0.5, 0.7, 1.0, 2.0]))
@settings(max_examples=60, deadline=None)
def test_resampling_there_and_back_keeps_shape_and_flips(height, width, wanted):
    rng = np.random.default_rng(height * 41 + width)
    rgb = rng.integers(0, 255, (height, width, 3), np.uint8)
    small = to_mpp(rgb, 0.5, wanted)
    assert small.shape[:2] == tuple(max(1, round(side * 0.5 / wanted)) for side in (height, width))
    labels = rng.integers(0, 9, small.shape[:2]).astype(np.int32)
    back = to_shape(labels, (height, width))
    assert back.shape == (height, width)
    assert set(np.unique(back)) <= set(np.unique(labels))
    assert np.array_equal(back.T, to_shape(labels.T, (width, height)))
    if small.shape[0] <= height and small.shape[1] <= width:
        assert set(np.unique(back)) == set(np.unique(labels))


def test_what_is_nearly_the_right_size_is_left_alone():
    rgb = picture()
    assert to_mpp(rgb, 0.499, 0.5) is rgb
    assert to_mpp(rgb, 0.46, 0.5) is rgb
    assert to_mpp(rgb, 0.4, 0.5) is not rgb


def test_the_class_of_most_pixels_wins_and_background_has_no_vote():
    labels = np.array([[1, 1, 1, 0, 3, 3], [1, 1, 0, 0, 3, 0]])
    types = np.array([[0, 0, 0, 2, 2, 1], [2, 0, 0, 1, 1, 0]])
    assert class_by_vote(labels, types, 2).tolist() == [1, 0, 0]
    assert class_by_vote(np.zeros((2, 2), int), np.zeros((2, 2), int), 3).tolist() == []
