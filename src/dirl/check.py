"""`dirl check`: compares the output of any command with its checksums, and advises how to repair it."""

import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum, auto
from pathlib import Path

import pyarrow as pa

from dirl.core.boundary import inside, parsing
from dirl.core.callable_module import make_callable
from dirl.core.card import Card, read_card
from dirl.core.checked import repair_advice
from dirl.core.digests import files_of, is_whole
from dirl.core.errors import StoreError
from dirl.core.layout import CARD, NOT_CONTENT
from dirl.core.progress import bar, counted
from dirl.store.cells_writer import CELLS_SCHEMA
from dirl.store.index import INDEX, TILES_SCHEMA, check_shards, read_parquet

# Members of a tar file in one row of its index: suffix of the member's name, prefix of the index's columns.
SHOWN = 3  # slides that failed, in one line
MEMBERS = {
    "tile": (TILES_SCHEMA, ((".jpg", ""),)),
    "cells": (CELLS_SCHEMA, ((".labels", "labels_"), (".regions", "regions_"))),
}


class State(StrEnum):
    """What is wrong with a file or an output."""

    DAMAGED = auto()
    MISSING = auto()
    UNFINISHED = auto()
    INCOMPLETE = auto()  # slides failed
    UNCHECKED = auto()  # an output without checksums
    UNKNOWN = auto()  # a file that no command wrote: no damage


@dataclass(frozen=True)
class Finding:
    """A difference between an output and its checksums.

    Attributes
    ----------
    what
        What is wrong.
    path
        The file, or the output.
    reason
        Details, or empty.
    remedy
        Command to run; for an unknown file, what it is.
    """

    what: State
    path: Path
    reason: str
    remedy: str

    def __str__(self) -> str:
        reason = f" ({self.reason})" if self.reason else ""
        return f"{self.what}: {self.path}{reason} — {self.remedy}"


@dataclass(frozen=True)
class CheckResult:
    """Result of `check`.

    Attributes
    ----------
    path
        The output.
    outputs, files, members
        Numbers of outputs (itself and those inside it), of their files, and of tiles, label maps and region
        maps that were checked.
    findings
        Differences that were found.
    """

    path: Path
    outputs: int
    files: int
    members: int
    findings: tuple[Finding, ...]

    @property
    def whole(self) -> bool:
        """Whether there is nothing but whole files, and unknown ones."""
        return all(finding.what == State.UNKNOWN for finding in self.findings)


def check(path: Path, *, quiet: bool = False) -> CheckResult:
    """Compare an output of any command, and the outputs inside it, with their checksums.

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
        read_card(path)  # raises the error that explains why
    findings: list[Finding] = []
    files = members = 0
    folders = list(_outputs(path))
    with bar("Checking", len(folders), quiet=quiet) as advance:
        for folder in folders:
            try:
                card = read_card(folder)
            except StoreError as error:
                findings.append(Finding(State.DAMAGED, folder / CARD, error.reason, error.remedy))
                continue
            found = list(_files(folder, card, _Repair(path, folder, card.stage)))
            findings += found
            files += len(card.files)
            # Without a whole index, the members cannot be checked.
            if card.stage in MEMBERS and not {folder, folder / INDEX} & {one.path for one in found}:
                count, bad = _members(folder, card.stage)
                members += count
                findings += bad
            findings += _failed(folder, card)
            advance(note=str(folder))
    return CheckResult(path, len(folders), files, members, tuple(findings))


@dataclass(frozen=True)
class _Repair:
    """Advice that repairs an output, which may be part of another command's output."""

    root: Path
    folder: Path
    stage: str

    def __call__(self, name: str = "", *, missing: bool = False) -> str:
        whole = read_card(self.root).stage
        if self.folder == self.root or whole not in ("demo", "study"):
            return repair_advice(self.stage, name, missing=missing)
        if whole == "study":  # without its row, the study does this run's missing steps again
            _, *run = self.folder.relative_to(self.root).parts
            row = self.root.joinpath("results", *run).with_suffix(".json")
            return f"remove {self.folder} and {row}, and run the same `dirl study` again"
        again = "run the same `dirl demo` again"
        return again if self.stage in MEMBERS else f"remove {self.folder}, and {again}"


def _outputs(folder: Path) -> Iterator[Path]:
    """Yield an output and all outputs inside it."""
    if (folder / CARD).exists():
        yield folder
    for inner in sorted(folder.iterdir()):
        if inner.is_dir() and not inner.is_symlink() and inner.name not in NOT_CONTENT:
            yield from _outputs(inner)


def _files(folder: Path, card: Card, repair: _Repair) -> Iterator[Finding]:
    if card.finished is None:
        again = "run the same command again to finish it"
        yield Finding(State.UNFINISHED, folder, "its files are not checked yet", again)
        return
    there = files_of(folder)
    if there and not card.files:
        reason = "an older version of dirl made it, without checksums"
        yield Finding(State.UNCHECKED, folder, reason, repair())
        return
    for name, written in card.files.items():
        if name not in there:
            yield Finding(State.MISSING, inside(folder, name), "", repair(name, missing=True))
        elif not is_whole(there[name], written):
            yield Finding(State.DAMAGED, there[name], "", repair(name))
    for name in sorted(set(there) - set(card.files)):
        yield Finding(State.UNKNOWN, there[name], "", "no command of dirl wrote this file; dirl ignores it")


def _failed(folder: Path, card: Card) -> Iterator[Finding]:
    failed = card.counts.get("failed", 0)
    if card.finished is not None and failed:
        slides = counted(failed + card.counts.get("slides", 0), "slide")
        reasons = [f"{name}: {why}" for name, why in card.counts.get("failures", {}).items()]
        which = ": " + "; ".join([*reasons[:SHOWN], *(["…"] if len(reasons) > SHOWN else [])])
        yield Finding(
            State.INCOMPLETE,
            folder,
            f"{failed} of {slides} failed{which if reasons else ''}",
            f"mend these slides or leave them out, and run `dirl {card.stage}` again",
        )


def _members(folder: Path, stage: str) -> tuple[int, list[Finding]]:
    """Check the members of the tar files of a store or of its cells. Return their number and the findings."""
    schema, kinds = MEMBERS[stage]
    try:
        index = read_parquet(folder / INDEX, repair_advice(stage), schema=schema)
    except StoreError as error:
        return 0, [Finding(State.DAMAGED, folder / INDEX, error.reason, error.remedy)]
    findings = []
    remove = f"remove it, and {repair_advice(stage)}"
    for shard in index["shard"].unique().to_pylist():
        rows = index.filter(pa.compute.equal(index["shard"], shard))
        path = inside(folder, shard)
        if not path.exists():
            findings.append(Finding(State.MISSING, path, "", repair_advice(stage)))
            continue
        try:
            check_shards(folder, rows)
            bad = _bad_members(path, rows, kinds)
        except StoreError as error:
            findings.append(Finding(State.DAMAGED, path, error.reason, remove))
            continue
        if bad:
            reason = f"{len(bad)} of its members, first {bad[0]}"
            findings.append(Finding(State.DAMAGED, path, reason, remove))
    return len(index) * len(kinds), findings


def _bad_members(path: Path, rows: pa.Table, kinds: tuple[tuple[str, str], ...]) -> list[str]:
    """Names of members whose bytes or place in the tar file differ from the index.

    Raises
    ------
    StoreError
        If it is no longer a tar file.
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
