"""What `dirl tile --overwrite` replaces: the slides that it names, and the cells of those whose tiles change.

Nothing is removed before the new tiles are known to be possible.
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dirl.config import TileConfig
from dirl.core.card import Card, differing_settings, mark_unfinished, read_card
from dirl.core.errors import DirlError, DirlWarning, StoreError, as_dirl_error, raise_failures
from dirl.core.files import remove
from dirl.core.layout import CARD
from dirl.core.owner import MERGE_SECONDS, item_locked, locked
from dirl.core.progress import bar
from dirl.slides.discovery import SlideInput, TilesInput
from dirl.store.cells_writer import cells_names, slide_files
from dirl.store.cut import cut_slide
from dirl.store.index import SlideRecord


def check_replaceable(
    out: Path,
    card: Card,
    config: TileConfig,
    found: Sequence[SlideInput | TilesInput],
    there: Sequence[SlideRecord],
    *,
    quiet: bool,
) -> bool:
    """Check what ``--overwrite`` would remove, and warn of it. Return whether it replaces the whole store.

    With the store's own settings, only the slides of `found` are replaced. Other settings replace all slides.

    Raises
    ------
    StoreError
        If a slide of the store would be lost, because the settings differ and `found` does not name it.
    SlideError, PartlyFailedError
        If the settings differ and a slide cannot be tiled with them.
    """
    named = {one.slide_id for one in found}
    names = ", ".join(cells_names(out))
    if not (out / CARD).exists() or read_card(out).digest == card.digest:
        again = [one.slide_id for one in there if one.slide_id in named]
        if again and names:
            _warn(
                f"--overwrite tiles again: {', '.join(again)}. Where the tiles change, their cells ({names}) "
                "are removed: find them again with `dirl cells`"
            )
        return False
    if lost := [one.slide_id for one in there if one.slide_id not in named]:
        raise StoreError(
            f"made with other settings ({differing_settings(read_card(out), card)}), and this command does "
            f"not name all of its slides: {', '.join(lost)} would be lost",
            where=out,
            remedy="name another directory, or name all slides of the store",
        )
    failures: dict[str, DirlError] = {}
    with bar("Checking slides", len(found), quiet=quiet) as advance:
        for item in found:
            if isinstance(item, SlideInput):  # sizes of ready-made tiles are checked before
                try:
                    cut_slide(item, config).close()
                except Exception as error:
                    failures[item.slide_id] = as_dirl_error(error, item.path)
            advance(note=item.slide_id)
    raise_failures(failures, len(found) - len(failures))
    if names:
        _warn(f"--overwrite removes all slides of {out} and their cells ({names}); find the cells again")
    return True


def remove_earlier(out: Path, earlier: SlideRecord | None, record: SlideRecord) -> None:
    """Remove the index of a slide that is about to be tiled again, and its cells if its tiles change."""
    if earlier is not None and _determines_tiles(earlier) != _determines_tiles(record):
        for folder in sorted((out / "cells").glob("*")):
            if (folder / CARD).exists():
                _remove_cells(folder, record.slide_id)
    remove(out / "tiles" / f"{record.slide_id}.parquet")


def _determines_tiles(record: SlideRecord) -> tuple[object, ...]:
    """With the settings of the store, these determine a slide's tiles."""
    return record.kind, record.source, record.mpp, record.size_px


def _remove_cells(folder: Path, slide_id: str) -> None:
    with item_locked(folder, slide_id), locked(folder, MERGE_SECONDS):
        names = slide_files(slide_id)
        card = read_card(folder)
        files = {name: digest for name, digest in card.files.items() if name not in names}
        mark_unfinished(folder, replace(card, files=files))
        for name in names:
            remove(folder / name)


def _warn(text: str) -> None:
    warnings.warn(text, DirlWarning, stacklevel=4)
