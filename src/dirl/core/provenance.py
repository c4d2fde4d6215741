"""Provenance: the `card.json` that every output directory carries, and who may write there."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import dirl
from dirl.core.boundary import check_name, parsing, refuse_special
from dirl.core.digests import files_of
from dirl.core.errors import StoreError
from dirl.core.files import read_json, remove, write_json
from dirl.core.journal import Written, note_written, read_notes, remove_notes
from dirl.core.layout import CARD, LOCK_FILES, NOT_CONTENT, PART
from dirl.core.owner import (
    MERGE_SECONDS,
    content,
    in_stage,
    locked,
    own,
    refuse_if_items_locked,
    remove_stale,
)

SEAL = "digest_of_card"
PACKAGES = (
    "numpy",
    "torch",
    "timm",
    "lightly",
    "lightning",
    "openslide-python",
    "scikit-image",
    "scikit-learn",
    "h5py",
)


@dataclass(frozen=True)
class Card:
    """What made a directory.

    Attributes
    ----------
    stage
        The command that made it: ``tile``, ``cells``, ``pretrain``, ``audit``…
    config
        The resolved settings, with units in the field names.
    inputs
        A digest for each input.
    finished
        When the stage completed, in ISO 8601; None while it is unfinished.
    counts
        What it holds, in numbers.
    files
        Digests of the files that dirl wrote, taken as they were written; see `dirl.core.journal`.
    """

    stage: str
    config: Mapping[str, Any]
    inputs: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, Any] = field(default_factory=dict)
    started: str = ""
    finished: str | None = None
    dirl_version: str = dirl.__version__
    git_commit: str | None = None
    python: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Written] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Digest of what determines the content: stage, settings and inputs."""
        return digest({"stage": self.stage, "config": self.config, "inputs": self.inputs})


def digest(value: Any) -> str:
    """Sixteen hex digits of the SHA-256 of a JSON-like value, of bytes, or of a file's content."""
    if isinstance(value, Path):
        refuse_special(value)
        with value.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()[:16]
    data = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True, default=str).encode()
    return hashlib.sha256(data).hexdigest()[:16]


def new_card(stage: str, config: Mapping[str, Any], inputs: Mapping[str, str] | None = None) -> Card:
    """Make the card of a stage that starts now, in this environment."""
    return Card(
        stage=stage,
        config=json.loads(json.dumps(config, default=str)),
        inputs=dict(inputs or {}),
        started=_now(),
        git_commit=_git_commit(),
        python=sys.version.split()[0],
        versions=_versions(),
    )


def read_card(directory: Path, stage: str | None = None) -> Card:
    """Read a directory's card.

    Raises
    ------
    StoreError
        If there is none, if it is damaged, or if another stage made the directory.
    """
    path = directory / CARD
    again = "make the directory again"
    try:
        values = read_json(path, again, "damaged card")
    except FileNotFoundError:
        kind = "a tile store" if stage == "tile" else f"an output of dirl{f' {stage}' if stage else ''}"
        what = f"not {kind} (it has no {CARD})" if directory.exists() else "no such directory"
        remedy = f"make it with `dirl {stage}`" if stage else "name a directory that a dirl command made"
        raise StoreError(what, where=directory, remedy=remedy) from None
    with parsing(path, remedy=again, what="damaged card"):
        # Cards of earlier versions have no digest.
        if values.pop(SEAL, None) not in (None, digest(values)):
            raise ValueError(f"its {SEAL} is not that of its content")
        card = Card(**values)
        _check_types(card)
    card = replace(card, files={**card.files, **read_notes(directory)})
    if stage is not None and card.stage != stage:
        raise StoreError(
            f"made by `dirl {card.stage}`, not by `dirl {stage}`",
            where=directory,
            remedy=f"name a {stage} directory",
        )
    return card


def _check_types(card: Card) -> None:
    if not all(isinstance(value, str) for value in (card.stage, card.started, card.finished or "")):
        raise TypeError("stage, started and finished are words")
    if not all(isinstance(value, dict) for value in (card.config, card.inputs, card.counts, card.versions)):
        raise TypeError("config, inputs, counts and versions are mappings")
    for name, written in card.files.items():
        if not written.keys() >= Written.__annotations__.keys():  # earlier versions kept more
            raise TypeError(f"no digest of {name}")


def _write(directory: Path, card: Card) -> None:
    """Write a card with a digest of its own."""
    values = json.loads(json.dumps(asdict(card), default=str))
    write_json(directory / CARD, values | {SEAL: digest(values)})


def claim(
    directory: Path,
    card: Card,
    *,
    overwrite: bool = False,
    spare: Path | None = None,
    shared: bool = False,
) -> Card:
    """Take a directory for a stage: start it, or continue one with equal settings.

    The stage, a function decorated with `dirl.core.owner.owning`, owns the directory until it ends. Outside
    of a stage, the directory is owned only while the card is written. A finished directory with equal
    settings is only read.

    Parameters
    ----------
    directory
        Output directory of the stage.
    card
        What the stage is about to do.
    overwrite
        Remove a directory made with other settings. Only a directory that carries a card of the same stage
        is ever removed.
    spare
        A path in the directory that is kept.
    shared
        Own the directory only while the card is written: several processes fill it, item by item, each of
        which they own with `dirl.core.owner.item_locked`.

    Returns
    -------
    Card
        The card on disk: the earlier one where work is taken up.

    Raises
    ------
    StoreError
        If the directory was made with other settings or by another stage, or holds other files.
    InUseError
        If another process owns it.
    """
    check_name(directory)
    earlier = allowed(directory, card, overwrite=overwrite)
    if earlier is not None and earlier.finished:
        return earlier
    if in_stage() and not shared:
        own(directory)
        return _take(directory, card, overwrite, spare)
    with locked(directory, MERGE_SECONDS):
        remove_stale(directory, deep=False)
        return _take(directory, card, overwrite, spare)


def _take(directory: Path, card: Card, overwrite: bool, spare: Path | None) -> Card:
    """Start or take up a directory that nobody else writes to."""
    earlier = allowed(directory, card, overwrite=overwrite)
    if earlier is not None:
        return earlier
    if (directory / CARD).exists():
        refuse_if_items_locked(directory)
        _empty(directory, read_card(directory), spare)
    _write(directory, card)
    return card


def allowed(directory: Path, card: Card, *, overwrite: bool = False) -> Card | None:
    """Whether `claim` would take a directory, without a change to it.

    Returns
    -------
    Card or None
        The card of what would be taken up; None where all is to be made. Other settings are no hindrance
        while the directory holds no file.

    Raises
    ------
    StoreError
        As `claim` does.
    """
    if (directory / CARD).exists():
        earlier = read_card(directory)
        if earlier.stage != card.stage:
            raise StoreError(
                f"made by `dirl {earlier.stage}`, not by `dirl {card.stage}`",
                where=directory,
                remedy="name another directory",
            )
        if earlier.digest == card.digest and not overwrite:
            return earlier
        if not overwrite and not _is_empty(directory):
            raise StoreError(
                f"made with other settings ({difference(earlier, card)})",
                where=directory,
                remedy="name another directory, or pass --overwrite to replace it",
            )
    elif directory.exists() and (not directory.is_dir() or _content(directory)):
        raise StoreError(
            "exists and was not made by dirl", where=directory, remedy="name a new or an empty directory"
        )
    return None


def finish(directory: Path, card: Card, counts: Mapping[str, Any]) -> Card:
    """Mark a stage's directory as complete, and list the digests of the files that dirl wrote there."""
    notes, known, exist = read_notes(directory), read_card(directory).files, files_of(directory)
    # The stage may have removed what it wrote since the last card, but nothing that was listed there.
    files = {name: known[name] for name in sorted(known) if name in exist or name not in notes}
    done = replace(card, finished=_now(), counts=dict(counts), files=files)
    _write(directory, done)
    remove_notes(directory, notes)
    return done


def note_change(directory: Path, *names: str) -> None:
    """Note in a complete directory's card that dirl has added files, or removed those it does not need."""
    for name in names:
        if (directory / name).exists():
            note_written(directory / name)
    notes, card = read_notes(directory), read_card(directory)
    removed = {name for name in names if not (directory / name).exists()}
    files = {name: written for name, written in card.files.items() if name not in removed}
    _write(directory, replace(card, files=files))
    remove_notes(directory, notes)


def reopen(directory: Path, card: Card) -> Card:
    """Own a complete directory and mark it as unfinished: some of its work is to be done again."""
    own(directory)
    return unfinish(directory, card)


def unfinish(directory: Path, card: Card) -> Card:
    """Mark a directory as unfinished, before files are written that have digests in its card."""
    undone = replace(card, finished=None)
    _write(directory, undone)
    return undone


def _empty(directory: Path, card: Card, spare: Path | None = None) -> None:
    """Remove everything except the card, and keep only the stage in it.

    So an interruption leaves a directory that dirl made, is no result, and may be overwritten.
    """
    _write(directory, replace(card, config={}, inputs={}, finished=None))
    for path in directory.iterdir():
        if path.name not in LOCK_FILES | {CARD} and path != spare:
            remove(path)


def _is_empty(directory: Path) -> bool:
    """Whether a stage wrote nothing to its directory but the card: it protects no result."""
    return all(path == directory / CARD for path in content(directory))


def _content(directory: Path) -> bool:
    """Whether a directory holds more than a lock and parts of files, as a killed owner may leave them."""
    return any(path.name not in NOT_CONTENT and not PART.fullmatch(path.name) for path in directory.iterdir())


def difference(earlier: Card, later: Card) -> str:
    """Name the settings in which two cards differ, each with its two values."""
    a, b = _flat(asdict(earlier)), _flat(asdict(later))
    keys = [k for k in sorted({*a, *b}) if k.split(".")[0] in {"stage", "config", "inputs"}]
    return ", ".join(
        f"{k.removeprefix('config.')} {a.get(k)} there, {b.get(k)} now" for k in keys if a.get(k) != b.get(k)
    )


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _git_commit() -> str | None:
    """Commit of the checkout that this code runs from, or None when it is installed as a package."""
    source = Path(__file__).parent
    if not (source.parent.parent / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(source), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
