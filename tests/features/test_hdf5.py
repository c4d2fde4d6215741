"""HDF5 files are read as h5py writes them; what lies elsewhere, claims too much or is damaged is refused."""

import os
import shutil

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dirl.core.errors import StoreError
from dirl.evaluate.mil.bags import read_bags
from dirl.features.external import read_external
from dirl.features.hdf5 import numbers, open_hdf5, strings

WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hdf5")


@settings(max_examples=40)
@given(st.lists(WORDS, max_size=30), st.sampled_from([None, 1, 7]))
def test_strings_of_variable_length_are_read_as_written(folder, words, chunk):
    with h5py.File(folder / "variable.h5", "w") as file:
        options = {} if chunk is None else {"chunks": (chunk,), "maxshape": (None,)}
        file.create_dataset("tile_id", data=words, dtype=h5py.string_dtype(), shape=(len(words),), **options)
    with open_hdf5(folder / "variable.h5", "again") as file:
        assert strings(file, "tile_id").tolist() == words


@given(st.lists(WORDS, min_size=1, max_size=30))
def test_strings_of_fixed_length_are_read_as_written(folder, words):
    encoded = np.char.encode(np.array(words, np.str_), "utf-8")
    with h5py.File(folder / "fixed.h5", "w") as file:
        kind = h5py.string_dtype("utf-8", max(1, encoded.itemsize))
        file.create_dataset("tile_id", data=encoded.astype(kind))
    with open_hdf5(folder / "fixed.h5", "again") as file:
        assert strings(file, "tile_id").tolist() == words


@settings(max_examples=150)
@given(st.data())
def test_a_damaged_heap_of_strings_ends_in_words_or_an_error(folder, data):
    path, words = folder / "heap.h5", [f"slide/{i}_{i * 7}" for i in range(40)]
    if not path.exists():
        with h5py.File(path, "w") as file:
            file.create_dataset("tile_id", data=words, dtype=h5py.string_dtype())
    whole = path.read_bytes()
    first = whole.index(b"GCOL")
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        # In the heads of the collection and of its objects rather than in the words.
        at = first + data.draw(st.integers(0, 15) | st.integers(0, len(words) * 32))
        damaged[at] = data.draw(st.integers(0, 255))
    (folder / "damaged.h5").write_bytes(damaged)
    try:
        with open_hdf5(folder / "damaged.h5", "again") as file:
            assert len(strings(file, "tile_id")) == len(words)
    except StoreError as error:
        assert "damaged" in error.reason


def plain(file):
    file["features"] = np.ones((4, 3), np.float32)
    file["coords"] = np.zeros((4, 2), int)


def external_link(file):
    file["features"] = h5py.ExternalLink("other.h5", "/features")


def soft_link(file):
    del file["features"]
    file["hidden"] = np.ones((4, 3), np.float32)
    file["features"] = h5py.SoftLink("/hidden")


def external_storage(file):
    file.create_dataset("features", (4, 3), np.float32, external=[("other.bin", 0, h5py.h5f.UNLIMITED)])


def virtual(file):
    layout = h5py.VirtualLayout((4, 3), np.float32)
    layout[:] = h5py.VirtualSource("other.h5", "features", (4, 3))
    file.create_virtual_dataset("features", layout)


def a_group(file):
    file.create_group("features")


def many_claimed(file):
    file.create_dataset("features", (10**7, 1000), np.float32, compression="gzip")


def huge_chunk(file):
    made = file.create_dataset("features", (4, 3), np.float32, chunks=(2**20, 512), maxshape=(None, None))
    made.id.write_direct_chunk((0, 0), b"x")


def never_written(file):
    file.create_dataset("features", (10**7, 1000), np.float32)


def words(file):
    file["features"] = ["a", "b", "c", "d"]


def pairs(file):
    file["features"] = np.zeros((4, 3), [("a", "f4"), ("b", "i2")])


HOSTILE = [
    external_link,
    soft_link,
    external_storage,
    virtual,
    a_group,
    many_claimed,
    huge_chunk,
    never_written,
    words,
    pairs,
]


@pytest.mark.parametrize("spoil", HOSTILE, ids=lambda each: each.__name__)
@pytest.mark.parametrize(
    "read", [read_external, lambda path: read_bags(path, quiet=True)], ids=["tiles", "bags"]
)
def test_an_array_that_is_not_in_the_file_is_refused(tmp_path, spoil, read):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        plain(file)
    shutil.copy(tmp_path / "other.h5", tmp_path / "other.bin")
    (tmp_path / "given").mkdir()
    with h5py.File(tmp_path / "given" / "slide.h5", "w") as file:
        plain(file)
        if spoil is not soft_link:
            del file["features"]
        spoil(file)
    with pytest.raises(StoreError, match="damaged") as caught:
        read(tmp_path / "given")
    assert caught.value.where == tmp_path / "given" / "slide.h5" and caught.value.remedy


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "slide.h5")
    with pytest.raises(StoreError, match="a pipe"):
        read_external(tmp_path)


def test_an_honest_file_is_read_however_it_is_packed(tmp_path):
    zeros = np.zeros((20000, 64), np.float32)  # packed a thousandfold
    with h5py.File(tmp_path / "slide.h5", "w") as file:
        file.create_dataset("packed", data=zeros, compression="gzip", compression_opts=9)
        file.create_dataset("growing", data=zeros[:50], maxshape=(None, 64))
        file.create_dataset("none", data=zeros[:0])
    with open_hdf5(tmp_path / "slide.h5", "again") as file:
        assert np.array_equal(numbers(file, "packed"), zeros)
        assert np.array_equal(numbers(file, "growing"), zeros[:50])
        assert numbers(file, "none").shape == (0, 64)
