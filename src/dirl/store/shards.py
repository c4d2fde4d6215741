"""Tar files whose members are read by byte offset, in any order."""

import os
import tarfile
import zlib
from collections import OrderedDict
from pathlib import Path
from threading import local
from types import TracebackType
from typing import Literal, Self

from dirl.core.boundary import inside, refuse_special
from dirl.core.errors import StoreError, from_system

Stage = Literal["tile", "cells"]
"""A command that makes shards."""

MAX_OPEN = 64
END = bytes(2 * tarfile.BLOCKSIZE)  # the end of every tar file
REMEDY = "run the command that made it again: it makes damaged files again"
REMOVE = "remove it, and run the same `dirl {stage}` again: it makes missing files again"


class ShardWriter:
    """Writer of a tar file at `path` that returns the place of each member's bytes.

    The same members give the same file, byte for byte. It is a context manager; the file is a complete tar
    only after the block.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def add(self, name: str, data: bytes) -> tuple[int, int, int]:
        """Append a member. Return the byte offset, the length and the CRC-32 of its data."""
        member = tarfile.TarInfo(name)
        member.size = len(data)
        self._file.write(member.tobuf(tarfile.PAX_FORMAT))
        offset = self._file.tell()
        self._file.write(data)
        self._file.write(bytes(-len(data) % tarfile.BLOCKSIZE))
        return offset, len(data), zlib.crc32(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._file.write(END)
        finally:
            self._file.close()


class ShardReader:
    """Reader of bytes in many files, with few of them open. The least recently used file is closed first.

    Each thread and each pickled or forked copy opens its own files. Errors advise `stage`, the command that
    made the shards.
    """

    def __init__(self, root: Path, stage: Stage) -> None:
        self.root, self.stage = root, stage
        self._local = local()

    def read(self, shard: str, offset: int, length: int, crc32: int) -> bytes:
        """Read `length` bytes of a shard, in one call to the system, and check them.

        A `StoreError` tells that the shard is missing or too short, or that the bytes differ from the written
        ones.
        """
        data = os.pread(self._open(shard), length, offset)
        if len(data) != length:
            raise StoreError("truncated", where=self.root / shard, remedy=REMEDY)
        if zlib.crc32(data) != crc32:
            reason = f"the {length} bytes at {offset} differ from the written ones (CRC-32)"
            raise StoreError(reason, where=self.root / shard, remedy=REMOVE.format(stage=self.stage))
        return data

    def _open(self, shard: str) -> int:
        files = self._local.__dict__.setdefault("files", OrderedDict())
        held: _File | None = files.get(shard)
        if held is None:
            held = files[shard] = _File(inside(self.root, shard))
            if len(files) > MAX_OPEN:
                files.popitem(last=False)
        else:
            files.move_to_end(shard)
        return held.descriptor

    def __reduce__(self) -> tuple[type["ShardReader"], tuple[Path, Stage]]:
        return ShardReader, (self.root, self.stage)


class _File:
    """A file descriptor that is closed when it is no longer used."""

    def __init__(self, path: Path) -> None:
        self.descriptor = -1
        try:
            self.descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            raise StoreError("missing", where=path, remedy=REMEDY) from None
        except OSError as error:
            raise from_system(error, path) from error

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


def check_size(path: Path, end: int) -> None:
    """Check that a shard has its original length, given the end of its last member's data."""
    size = -(-end // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE + len(END)
    refuse_special(path)
    try:
        found = path.stat().st_size
    except FileNotFoundError:
        raise StoreError("missing", where=path, remedy=REMEDY) from None
    except OSError as error:
        raise from_system(error, path) from error
    if found != size:
        what = "truncated" if found < size else "changed"
        raise StoreError(f"{what}: {found} bytes, {size} were written", where=path, remedy=REMEDY)
