"""Labels and regions come back as they went in; shards hold what was written."""

import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dirl.core.errors import StoreError
from dirl.store import shards
from dirl.store.label_codec import (
    decode_labels,
    decode_numbers,
    decode_regions,
    encode_labels,
    encode_regions,
)
from dirl.store.shards import ShardReader, ShardWriter, check_size
from tests.known import known

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40)


@given(hnp.arrays(np.int32, SHAPES, elements=st.integers(0, 2**31 - 1)))
def test_labels_come_back(labels):
    back = decode_labels(encode_labels(labels))
    assert back.dtype == np.int32
    assert np.array_equal(back, labels)
    numbers, ids = decode_numbers(encode_labels(labels))
    assert numbers.dtype == np.int32 and np.array_equal(ids[numbers], labels)
    assert np.array_equal(np.unique(numbers[numbers > 0]), np.arange(1, len(ids)))


@pytest.mark.parametrize("count", [2**16 - 2, 2**16 - 1, 2**16, 2**16 + 1])
def test_more_nuclei_than_sixteen_bits_come_back(count):
    labels = np.zeros((300, 300), np.int32)
    labels.ravel()[:count] = np.arange(1, count + 1) * 7
    assert np.array_equal(decode_labels(encode_labels(labels)), labels)


@given(hnp.arrays(np.uint8, SHAPES, elements=st.integers(0, 3)))
def test_regions_come_back_at_two_bits_a_pixel(regions):
    data = encode_regions(regions)
    assert np.array_equal(decode_regions(data), regions)
    assert len(data) == 4 + -(-regions.size // 4)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"0\.\.3"):
        encode_regions(np.array([[4]]))
    with pytest.raises(ValueError, match=r"must lie in"):
        encode_labels(np.array([[-1]]))
    with pytest.raises(ValueError, match=r"must lie in"):
        encode_labels(np.array([[2**31]]))


@given(st.binary(max_size=60))
def test_damaged_bytes_are_a_store_error(data):
    for decode in (decode_labels, decode_regions):
        try:
            decode(data)
        except StoreError as error:
            assert error.remedy


def test_a_shard_is_a_tar_and_each_member_is_where_it_was_said_to_be(tmp_path):
    members = {"a.jpg": b"x" * 700, "a/longer" * 30: b"", "b.labels": bytes(512)}
    with ShardWriter(tmp_path / "s.tar") as tar:
        places = {name: tar.add(name, data) for name, data in members.items()}
    with tarfile.open(tmp_path / "s.tar") as tar:
        assert {m.name: known(tar.extractfile(m)).read() for m in tar} == members
    reader = ShardReader(tmp_path, "tile")
    assert {name: reader.read("s.tar", *place) for name, place in places.items()} == members
    check_size(tmp_path / "s.tar", max(offset + length for offset, length, _ in places.values()))


def test_a_truncated_or_missing_shard_is_named(tmp_path):
    with ShardWriter(tmp_path / "s.tar") as tar:
        place = tar.add("a", b"x" * 5000)
    data = (tmp_path / "s.tar").read_bytes()
    (tmp_path / "s.tar").write_bytes(data[:3000])
    with pytest.raises(StoreError, match=r"s\.tar: truncated"):
        ShardReader(tmp_path, "tile").read("s.tar", *place)
    with pytest.raises(StoreError, match=r"s\.tar: truncated: 3000 of|s\.tar: truncated: 3000 bytes"):
        check_size(tmp_path / "s.tar", sum(place[:2]))
    for attempt in (
        lambda: ShardReader(tmp_path, "tile").read("t.tar", 0, 1, 0),
        lambda: check_size(tmp_path / "t.tar", 1),
    ):
        with pytest.raises(StoreError, match=r"t\.tar: missing"):
            attempt()


def test_few_files_are_open_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "MAX_OPEN", 3)
    places = []
    for i in range(9):
        with ShardWriter(tmp_path / f"{i}.tar") as tar:
            places.append(tar.add("a", bytes([i])))
    reader = ShardReader(tmp_path, "tile")
    for i in [*range(9), 8, 0, 3]:
        assert reader.read(f"{i}.tar", *places[i]) == bytes([i])
        assert len(reader._local.files) <= 3
