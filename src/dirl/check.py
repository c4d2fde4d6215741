"""`dirl check`: whether an output of any command is as it was written, and what mends it."""

import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from dirl.core.boundary import inside, parsing
from dirl.core.callable_module import make_callable
from dirl.core.checked import remedy
from dirl.core.digests import CARD, files_of, is_whole
from dirl.core.errors import StoreError
from dirl.core.owner import OURS
from dirl.core.progress import bar
from dirl.core.provenance import Card, read_card
from dirl.store.cells_writer import CELLS_SCHEMA
from dirl.store.index import INDEX, TILES_SCHEMA, check_shards, read_table

DAMAGED, MISSING, UNKNOWN, UNFINISHED = "damaged", "missing", "unknown", "unfinished"
# The members of a tar file that a row of its index names: the ending of their names, and of the columns'.
MEMBERS = {
    "tile": (TILES_SCHEMA, ((".jpg", ""),)),
    "cells": (CELLS_SCHEMA, ((".labels", "labels_"), (".regions", "regions_"))),
}


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was written.

    Attributes
    ----------
    what
        ``damaged``, ``missing``, ``unfinished``, or ``unknown``: a file that no command wrote, which is no
        damage.
    path
        The file, or the output.
    reason
        More of it, or empty.
    remedy
        What to run.
    """

    what: str
    path: Path
    reason: str
    remedy: str

    def __str__(self) -> str:
        reason = f" ({self.reason})" if self.reason else ""
        return f"{self.what}: {self.path}{reason} — {self.remedy}"


@dataclass(frozen=True)
class CheckResult:
    """What `check` found.

    Attributes
    ----------
    path
        The output.
    outputs, files, members
        How many outputs were checked (itself, and those that lie in it), how many of their files, and how
        many tiles, label maps and region maps.
    findings
        What is not as it was written.
    """

    path: Path
    outputs: int
    files: int
    members: int
    findings: tuple[Finding, ...]

    @property
    def whole(self) -> bool:
        """Whether nothing is damaged, missing or unfinished."""
        return all(finding.what == UNKNOWN for finding in self.findings)


def check(path: Path, *, quiet: bool = False) -> CheckResult:
    """Compare an output of any command, and those that lie in it, with their checksums.

    Parameters
    ----------
    path
        A directory that a dirl command made.
    quiet
        Show no progress.

    Raises
    ------
    StoreError
        If no dirl command made the directory.
    """
    if not (path / CARD).exists():
        read_card(path)  # says why it is none
    findings: list[Finding] = []
    files = members = 0
    folders = list(_outputs(path))
    with bar("Checking", len(folders), quiet=quiet) as advance:
        for folder in folders:
            try:
                card = read_card(folder)
            except StoreError as error:
                findings.append(Finding(DAMAGED, folder / CARD, error.reason, error.remedy))
                continue
            mend = _Mend(path, folder, card.stage)
            found = list(_files(folder, card, mend))
            findings += found
            files += len(card.files)
            # A damaged index says nothing of the members.
            if card.stage in MEMBERS and folder / INDEX not in [finding.path for finding in found]:
                count, bad = _members(folder, card.stage)
                members += count
                findings += bad
            advance(note=str(folder))
    return CheckResult(path, len(folders), files, members, tuple(findings))


@dataclass(frozen=True)
class _Mend:
    """What mends an output, which may be a part of that of another command."""

    root: Path
    folder: Path
    stage: str

    def __call__(self, name: str = "", *, missing: bool = False) -> str:
        whole = read_card(self.root).stage
        if self.folder == self.root or whole not in ("demo", "study"):
            return remedy(self.stage, name, missing=missing)
        if whole == "study":
            return remedy(whole)
        again = "run the same `dirl demo` again"
        return again if self.stage in MEMBERS else f"remove {self.folder}, and {again}"


def _outputs(folder: Path) -> Iterator[Path]:
    """Yield an output and all that lie in it."""
    if (folder / CARD).exists():
        yield folder
    for inner in sorted(folder.iterdir()):
        if inner.is_dir() and not inner.is_symlink() and inner.name not in OURS:
            yield from _outputs(inner)


def _files(folder: Path, card: Card, mend: _Mend) -> Iterator[Finding]:
    if card.finished is None:
        again = "run the same command again to finish it"
        yield Finding(UNFINISHED, folder, "its files have no checksums yet", again)
        return
    there = files_of(folder)
    for name, written in card.files.items():
        if name not in there:
            yield Finding(MISSING, inside(folder, name), "", mend(name, missing=True))
        elif not is_whole(there[name], written):
            yield Finding(DAMAGED, there[name], "", mend(name))
    for name in sorted(set(there) - set(card.files)):
        yield Finding(UNKNOWN, there[name], "", "no command wrote it here: remove it if it is not yours")


def _members(folder: Path, stage: str) -> tuple[int, list[Finding]]:
    """Check what the tar files of a store, or of its cells, hold; returns how many members there are."""
    schema, kinds = MEMBERS[stage]
    try:
        index = read_table(folder / INDEX, remedy(stage), schema=schema)
    except StoreError as error:
        return 0, [Finding(DAMAGED, folder / INDEX, error.reason, error.remedy)]
    findings = []
    remove = f"remove it, and {remedy(stage)}"
    for shard in index["shard"].unique().to_pylist():
        rows = index.filter(pa.compute.equal(index["shard"], shard))
        path = inside(folder, shard)
        if not path.exists():
            findings.append(Finding(MISSING, path, "", remedy(stage)))
            continue
        try:
            check_shards(folder, rows)
            bad = _bad_members(path, rows, kinds)
        except StoreError as error:
            findings.append(Finding(DAMAGED, path, error.reason, remove))
            continue
        if bad:
            reason = f"{len(bad)} of its members, first {bad[0]}"
            findings.append(Finding(DAMAGED, path, reason, remove))
    return len(index) * len(kinds), findings


def _bad_members(path: Path, rows: pa.Table, kinds: tuple[tuple[str, str], ...]) -> list[str]:
    """Names of members whose bytes or whose place in the tar file are not those in the index.

    Raises
    ------
    StoreError
        If it is no tar file any more.
    """
    expected = {
        f"{tile_id}{ending}": place
        for ending, prefix in kinds
        for tile_id, *place in zip(
            *(rows[name].to_pylist() for name in ("tile_id", *_columns(prefix))), strict=True
        )
    }
    with parsing(path, remedy=""), tarfile.open(path, "r:") as tar:
        found = {member.name: (member.offset_data, member.size) for member in tar}
    with path.open("rb") as handle:
        bad = []
        for name, (offset, length, crc32) in expected.items():
            handle.seek(offset)
            right = zlib.crc32(handle.read(length)) == crc32 and found.get(name) == (offset, length)
            bad += [] if right else [name]
    return bad


def _columns(prefix: str) -> tuple[str, ...]:
    return tuple(f"{prefix}{name}" for name in ("offset", "length", "crc32"))


make_callable(__name__, "dirl.check:check")
