"""The embedded segmenter: sound labels on anything, and good ones on real nuclei."""

import pickle

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from dirl.cells.scoring.metrics import score_nuclei
from dirl.cells.segmenters.hematoxylin import Hematoxylin, Stain
from dirl.prior.regions import cell_region_ids
from dirl.synthetic import draw

EIGHT = np.ones((3, 3))
GLASS, TISSUE, NUCLEUS = (242, 240, 243), (225, 150, 190), (95, 70, 140)


def disc(size, centre, radius):
    y, x = np.mgrid[:size, :size]
    return np.hypot(y - centre[0], x - centre[1]) <= radius


@pytest.fixture(scope="module")
def slide():
    return draw(4, (768, 768))


@pytest.fixture(scope="module")
def find(slide):
    return Hematoxylin().fit([slide.rgb], slide.mpp)


def test_labels_are_sequential_connected_and_not_small(slide, find):
    (mask,) = find([slide.rgb])
    assert mask.labels.shape == slide.rgb.shape[:2]
    assert mask.labels.dtype == np.int32
    assert mask.classes is None
    assert len(mask) > 100
    assert np.array_equal(np.unique(mask.labels), np.arange(len(mask) + 1))
    for number, box in enumerate(ndimage.find_objects(mask.labels), 1):
        nucleus = mask.labels[box] == number
        assert ndimage.label(nucleus, EIGHT)[1] == 1
        assert nucleus.sum() * mask.mpp**2 >= 10


def test_finds_the_nuclei_that_were_drawn(slide, find):
    scores = score_nuclei(find([slide.rgb])[0].labels, slide.labels)
    assert scores.dice > 0.75


def test_labels_do_not_depend_on_other_windows_and_survive_pickling(slide, find):
    a, b = slide.rgb[:300], slide.rgb[300:500]
    together = find([a, b])
    alone = pickle.loads(pickle.dumps(find))([b])
    assert np.array_equal(together[1].labels, alone[0].labels)


def test_finer_windows_are_shrunk_and_labels_brought_back(slide):
    fine = slide.rgb[:320, :320].repeat(2, 0).repeat(2, 1)
    segmenter = Hematoxylin()
    (mask,) = segmenter.fit([fine], 0.25)([fine])
    (coarse,) = segmenter.fit([slide.rgb[:320, :320]], 0.5)([slide.rgb[:320, :320]])
    assert mask.labels.shape == (640, 640)
    assert mask.mpp == 0.25
    assert np.array_equal(mask.labels, coarse.labels.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("mpp", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), TISSUE, (20, 40, 160)])
@pytest.mark.parametrize("shape", [(64, 64), (1, 1), (3, 200)])
def test_plain_windows_hold_no_nuclei(mpp, colour, shape):
    rgb = np.full((*shape, 3), colour, np.uint8)
    segmenter = Hematoxylin()
    for samples in ([], [rgb], [rgb] * 300):
        (mask,) = segmenter.fit(samples, mpp)([rgb])
        assert mask.labels.shape == shape
        assert len(mask) == 0


def test_noise_without_nuclei_stays_empty():
    rng = np.random.default_rng(0)
    rgb = (np.array(TISSUE) + rng.normal(0, 4, (256, 256, 1))).clip(0, 255).astype(np.uint8)
    assert (Hematoxylin().fit([rgb], 0.5)([rgb])[0].labels > 0).mean() < 0.01


def test_one_nucleus_is_one():
    rgb = np.full((96, 96, 3), TISSUE, np.uint8)
    rgb[:, :20] = GLASS
    nucleus = disc(96, (48, 60), 8)
    rgb[nucleus] = NUCLEUS
    (mask,) = Hematoxylin().fit([rgb], 0.5)([rgb])
    assert len(mask) == 1
    assert score_nuclei(mask.labels, nucleus.astype(np.int32)).pq > 0.8


def test_touching_nuclei_are_two():
    rgb = np.full((96, 96, 3), TISSUE, np.uint8)
    rgb[disc(96, (48, 38), 9) | disc(96, (48, 54), 9)] = NUCLEUS
    assert len(Hematoxylin().fit([rgb], 0.5)([rgb])[0]) == 2


def test_a_small_nucleus_needs_more_contrast(find):
    for radius, count in ((4, 0), (7, 1)):
        rgb = np.full((96, 96, 3), TISSUE, np.uint8)
        rgb[disc(96, (48, 48), radius)] = (160, 130, 180)
        assert len(find([rgb])[0]) == count


def test_nuclei_have_no_pinholes(slide, find):
    (mask,) = find([slide.rgb])
    for number, box in enumerate(ndimage.find_objects(mask.labels), 1):
        nucleus = mask.labels[box] == number
        holes = ndimage.binary_fill_holes(nucleus) & (mask.labels[box] == 0)
        assert not holes.any()


def test_holes_of_glands_stay_open_at_1_um():
    ring = disc(96, (48, 48), 14) & ~disc(96, (48, 48), 5)
    rgb = np.full((96, 96, 3), TISSUE, np.uint8)
    rgb[ring] = NUCLEUS
    labels = Hematoxylin().fit([rgb], 1.0)([rgb])[0].labels
    assert not labels[disc(96, (48, 48), 3)].any()
    assert (labels > 0)[ring].mean() > 0.9


FOREIGN = {
    "blood": (170, 30, 40),
    "blue pen": (30, 60, 170),
    "green pen": (20, 110, 70),
    "black pen": (5, 5, 5),
    "keratin": (120, 45, 95),
    "bright keratin": (190, 40, 70),
}


@pytest.mark.parametrize("colour", FOREIGN.values(), ids=FOREIGN)
def test_blood_ink_and_keratin_are_not_nuclei(find, colour):
    rgb = np.full((160, 160, 3), TISSUE, np.uint8)
    for centre in ((40, 40), (40, 120), (120, 40)):
        rgb[disc(160, centre, 12)] = colour
    rgb[disc(160, (120, 120), 8)] = NUCLEUS
    (mask,) = find([rgb])
    assert len(mask) == 1
    assert mask.labels[120, 120] == 1


def test_what_ink_has_touched_is_no_nucleus(find):
    rgb = np.full((96, 96, 3), TISSUE, np.uint8)
    rgb[disc(96, (48, 48), 7)] = (70, 85, 130)
    assert not len(find([rgb])[0])


def test_the_darkest_nuclei_are_nuclei(find):
    rgb = np.full((96, 96, 3), TISSUE, np.uint8)
    nucleus = disc(96, (48, 48), 8)
    rgb[nucleus] = (5, 0, 18)
    (mask,) = find([rgb])
    assert score_nuclei(mask.labels, nucleus.astype(np.int32)).pq > 0.8


def test_too_little_tissue_means_a_typical_stain():
    assert Hematoxylin().stain([], 0.5) == Stain()
    assert Hematoxylin().stain([np.full((64, 64, 3), 255, np.uint8)], 0.5) == Stain()


def test_digest_follows_the_settings():
    assert Hematoxylin().digest == Hematoxylin().digest
    assert Hematoxylin().digest != Hematoxylin(threshold=0.5).digest


def test_regions():
    labels = np.array([[0, 3, 0], [0, 0, 9]])
    tissue = np.array([[True, True, False], [False, True, False]])
    assert cell_region_ids(labels, tissue).tolist() == [[2, 1, 0], [0, 2, 1]]
    assert cell_region_ids(labels, tissue).dtype == np.uint8


def test_scores_on_monuseg(data_dir):
    """Shrunk to 0.5 µm/px; each image is a slide of its own. The settings were tuned on these images."""
    segmenter = Hematoxylin()
    found = []
    for file in sorted((data_dir / "monuseg13").glob("*.labels.png")):
        with (
            Image.open(file) as labels,
            Image.open(file.with_name(file.name.replace(".labels", ""))) as image,
        ):
            truth = np.asarray(labels).astype(np.int32)[1::2, 1::2]
            rgb = np.asarray(image.convert("RGB").reduce(2))
        (mask,) = segmenter.fit([rgb], 0.5)([rgb])
        found.append(score_nuclei(mask.labels, truth))
    assert len(found) == 13
    assert np.mean([scores.dice for scores in found]) >= 0.77
    assert np.mean([scores.pq for scores in found]) >= 0.48
    assert min(scores.dice for scores in found) >= 0.72
