"""The claim of an output directory by a stage: who may write there, and what becomes of earlier content."""

from dataclasses import replace
from pathlib import Path

from dirl.core.boundary import check_name
from dirl.core.card import Card, differing_settings, mark_unfinished, read_card, write_card
from dirl.core.errors import StoreError
from dirl.core.files import remove
from dirl.core.layout import CARD, LOCK_FILES, NOT_CONTENT, PART
from dirl.core.owner import (
    MERGE_SECONDS,
    content,
    in_stage,
    locked,
    own,
    refuse_if_items_locked,
    remove_stale_of_shared,
    will_make,
)


def claim(
    directory: Path,
    card: Card,
    *,
    overwrite: bool = False,
    keep: Path | None = None,
    shared: bool = False,
) -> Card:
    """Take a directory for a stage: start it, or continue one with equal settings. Return the card on disk.

    The stage, a function decorated with `dirl.core.owner.owning`, owns the directory until it ends. Outside
    of a stage, the directory is owned only while the card is written. A finished directory with equal
    settings is only read.

    Parameters
    ----------
    overwrite
        Remove a directory made with other settings. Only a directory that carries a card of the same stage
        is ever removed.
    keep
        A path in the directory that is kept.
    shared
        Own the directory only while the card is written: several processes fill it, item by item, each of
        which they own with `dirl.core.owner.item_locked`.

    Raises
    ------
    StoreError
        If the directory was made with other settings or by another stage, or holds other files.
    InUseError
        If another process owns it.
    """
    check_name(directory)
    earlier = check_claim(directory, card, overwrite=overwrite)
    if earlier is not None and earlier.finished:
        return earlier
    if not (directory / CARD).exists():
        will_make(directory)
    if in_stage() and not shared:
        own(directory)
        return _start_or_continue(directory, card, overwrite, keep)
    with locked(directory, MERGE_SECONDS):
        remove_stale_of_shared(directory)
        return _start_or_continue(directory, card, overwrite, keep)


def _start_or_continue(directory: Path, card: Card, overwrite: bool, keep: Path | None) -> Card:
    """Start or continue a directory that nobody else writes to."""
    earlier = check_claim(directory, card, overwrite=overwrite)
    if earlier is not None:
        return earlier
    if (directory / CARD).exists():
        refuse_if_items_locked(directory)
        _clear(directory, read_card(directory), keep)
    write_card(directory, card)
    return card


def check_claim(directory: Path, card: Card, *, overwrite: bool = False) -> Card | None:
    """Check that `claim` would take a directory, and change nothing. Raises as `claim` does.

    It returns the card of what would be continued, or None where all is to be made. Other settings are no
    hindrance while the directory holds no file.
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
        if not overwrite and not _holds_no_result(directory):
            raise StoreError(
                f"made with other settings ({differing_settings(earlier, card)})",
                where=directory,
                remedy=f"{_elsewhere(card)}, or pass --overwrite to replace it",
            )
    elif directory.exists() and (not directory.is_dir() or _holds_files(directory)):
        raise StoreError(
            "exists and was not made by dirl", where=directory, remedy="name a new or an empty directory"
        )
    return None


def _elsewhere(card: Card) -> str:
    if card.stage == "cells":
        return "give these cells another name: `dirl cells --name NAME`"
    return "name another directory"


def claim_again(directory: Path, card: Card) -> Card:
    """Own a complete directory and mark it as unfinished: some of its work is to be done again."""
    own(directory)
    return mark_unfinished(directory, card)


def _clear(directory: Path, card: Card, keep: Path | None = None) -> None:
    """Remove everything except the card, and keep only the stage in it.

    So an interruption leaves a directory that dirl made, is no result, and may be overwritten.
    """
    write_card(directory, replace(card, config={}, inputs={}, finished=None))
    for path in directory.iterdir():
        if path.name not in LOCK_FILES | {CARD} and path != keep:
            remove(path)


def _holds_no_result(directory: Path) -> bool:
    """Whether a stage wrote nothing to its directory but the card: it protects no result."""
    return all(path == directory / CARD for path in content(directory))


def _holds_files(directory: Path) -> bool:
    """Whether a directory holds more than a lock and parts of files, as a killed owner may leave them."""
    return any(path.name not in NOT_CONTENT and not PART.fullmatch(path.name) for path in directory.iterdir())
