"""Near-duplicates: which changes the hash bears, and that only pairs across folds are named."""

import io

import numpy as np
import pytest
from PIL import Image

from dirl.evaluate.probe.duplicates import across_folds
from dirl.features.perceptual_hash import perceptual_hash
from dirl.store.colour import colour_histogram


def texture(seed: int, side: int = 96) -> np.ndarray:
    """Smooth blobs of two colours."""
    small = np.random.default_rng(seed).random((8, 8))
    large = np.asarray(
        Image.fromarray(small.astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC)
    )
    share = np.clip(large, 0, 1)[..., None]
    return (share * np.array([120, 60, 150]) + (1 - share) * np.array([235, 170, 205])).astype(np.uint8)


def again_encoded(image: np.ndarray) -> np.ndarray:
    data = io.BytesIO()
    Image.fromarray(image).save(data, "JPEG", quality=60)
    return np.asarray(Image.open(data))


def distance(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.bitwise_count(perceptual_hash(one) ^ perceptual_hash(other)))


@pytest.mark.parametrize("seed", range(5))
def test_the_hash_bears_what_copies_suffer_and_tells_tiles_apart(seed: int) -> None:
    image = texture(seed)
    smaller = np.asarray(Image.fromarray(image).resize((80, 80), Image.Resampling.LANCZOS))
    for copy in (again_encoded(image), smaller, np.clip(image * 0.9, 0, 255).astype(np.uint8)):
        assert distance(image, copy) <= 4
    assert distance(image, texture(seed + 100)) > 12


def test_only_pairs_across_folds_are_named() -> None:
    images = [texture(i) for i in range(6)]
    images += [again_encoded(images[0]), again_encoded(images[1]), images[2]]
    folds = np.array([0, 0, 1, 1, 0, 1, 1, 0, -1])  # copies of 0 and 2 stand elsewhere, that of 1 does not
    hashes = np.array([perceptual_hash(image) for image in images])
    colours = np.array([colour_histogram(image) for image in images])
    assert across_folds(hashes, colours, folds).tolist() == [[0, 6], [2, 8]]


def test_the_same_bits_in_other_colours_are_no_duplicate() -> None:
    image = texture(3)
    other = 255 - (255 - image) // 2
    hashes = np.array([perceptual_hash(each) for each in (image, other)])
    colours = np.array([colour_histogram(each) for each in (image, other)])
    assert np.bitwise_count(hashes[0] ^ hashes[1]) <= 4
    assert len(across_folds(hashes, colours, np.array([0, 1]))) == 0


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    hashes = generator.integers(0, 2**62, 40).astype(np.uint64)
    hashes[30:] = hashes[:10] ^ np.uint64(5)
    colours = np.full((40, 4), 0.5)
    folds = generator.integers(0, 3, 40)
    whole = across_folds(hashes, colours, folds)
    assert 0 < len(whole) <= 10
    monkeypatch.setattr("dirl.evaluate.probe.duplicates.PAIRS", 280)
    parts = across_folds(hashes, colours, folds)
    np.testing.assert_array_equal(parts, whole)
