"""The card of an output directory, ``card.json``: what made it, from what, and which files it holds."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import dirl
from dirl.core.boundary import parsing
from dirl.core.digests import FileDigest, digest, files_of
from dirl.core.errors import StoreError
from dirl.core.files import read_json, time_now, write_json
from dirl.core.journal import note_written, read_notes, remove_notes
from dirl.core.layout import CARD

# The commands that make an output, and those that measure one. "foreign" is in memory only: features that
# another program made.
Making = Literal["tile", "cells", "cells-export", "pretrain", "embed", "export", "demo", "study", "foreign"]
Measuring = Literal[
    "cells-report",
    "cells-score",
    "probe",
    "tokens",
    "readouts",
    "finetune",
    "mil",
    "robust",
    "compare",
    "audit",
    "map",
]
Stage = Making | Measuring
_DIGEST = re.compile(r"[0-9a-f]{16,64}")
CARD_DIGEST = "digest_of_card"  # key of the card's digest of its own content
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
        The command that made it.
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

    stage: Stage
    config: Mapping[str, Any]
    inputs: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, Any] = field(default_factory=dict)
    started: str = ""
    finished: str | None = None
    dirl_version: str = dirl.__version__
    git_commit: str | None = None
    python: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, FileDigest] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Digest of what determines the content: stage, settings and inputs."""
        return digest({"stage": self.stage, "config": self.config, "inputs": self.inputs})


def new_card(stage: Stage, config: Mapping[str, Any], inputs: Mapping[str, str] | None = None) -> Card:
    """Make the card of a stage that starts now, in this environment."""
    return Card(
        stage=stage,
        config=json.loads(json.dumps(config, default=str)),
        inputs=dict(inputs or {}),
        started=time_now(),
        git_commit=_git_commit(),
        python=sys.version.split()[0],
        versions=_versions(),
    )


def read_card(directory: Path, stage: Stage | None = None) -> Card:
    """Read a directory's card. A `StoreError` tells that it is missing, damaged, or of another stage."""
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
        if values.pop(CARD_DIGEST, None) not in (None, digest(values)):
            raise ValueError(f"its {CARD_DIGEST} is not that of its content")
        card = Card(**values)
        _check_types(card)
    card = replace(card, files={**card.files, **read_notes(directory)})
    if stage is not None and card.stage != stage:
        raise StoreError(
            f"made by `dirl {card.stage}`, not by `dirl {stage}`",
            where=directory,
            remedy=f"name an output of `dirl {stage}`",
        )
    return card


def _check_types(card: Card) -> None:
    if not all(isinstance(value, str) for value in (card.stage, card.started, card.finished or "")):
        raise TypeError("stage, started and finished are words")
    if not all(isinstance(value, dict) for value in (card.config, card.inputs, card.counts, card.versions)):
        raise TypeError("config, inputs, counts and versions are mappings")
    for name, written in card.files.items():
        if not written.keys() >= FileDigest.__annotations__.keys():  # earlier versions kept more
            raise TypeError(f"no digest of {name}")


def write_card(directory: Path, card: Card) -> None:
    """Write a card with a digest of its own."""
    values = json.loads(json.dumps(asdict(card), default=str))
    write_json(directory / CARD, values | {CARD_DIGEST: digest(values)})


def finish(directory: Path, card: Card, counts: Mapping[str, Any]) -> Card:
    """Mark a stage's directory as complete, and list the digests of the files that dirl wrote there."""
    notes, known, exist = read_notes(directory), read_card(directory).files, files_of(directory)
    # The stage may have removed what it wrote since the last card, but nothing that was listed there.
    files = {name: known[name] for name in sorted(known) if name in exist or name not in notes}
    done = replace(card, finished=time_now(), counts=dict(counts), files=files)
    write_card(directory, done)
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
    write_card(directory, replace(card, files=files))
    remove_notes(directory, notes)


def mark_unfinished(directory: Path, card: Card) -> Card:
    """Mark a directory as unfinished, before files are written that have digests in its card."""
    undone = replace(card, finished=None)
    write_card(directory, undone)
    return undone


def differing_settings(earlier: Card, later: Card) -> str:
    """Name the settings in which two cards differ, each with its two values."""
    a, b = _flat(asdict(earlier)), _flat(asdict(later))
    keys = [k for k in sorted({*a, *b}) if k.split(".")[0] in {"stage", "config", "inputs"}]
    return ", ".join(_difference(k, a.get(k), b.get(k)) for k in keys if a.get(k) != b.get(k))


def _difference(key: str, there: object, now: object) -> str:
    """Word a setting that differs. A digest tells a reader nothing but that the content is another."""
    name = key.removeprefix("config.")
    if key.startswith("inputs."):
        name = key.removeprefix("inputs.")
        return f"{name} is {'new' if there is None else 'not used now' if now is None else 'another'}"
    if any(isinstance(value, str) and _DIGEST.fullmatch(value) for value in (there, now)):
        return f"{name} is another"
    a, b = ("none" if value is None else value for value in (there, now))
    return f"{name} {a} there, {b} now"


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}.{key}" if prefix else str(key))
    return flat


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
