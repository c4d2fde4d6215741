"""Making a tile store from slides and folders of ready-made tiles."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from dirl.config import TileConfig
from dirl.core.card import finish, mark_unfinished, new_card, read_card
from dirl.core.claim import check_claim, claim
from dirl.core.cohort_part import WHOLE, CohortPart, end_part, refuse_overwrite
from dirl.core.digests import FileDigest, are_whole
from dirl.core.errors import DirlError, SlideError, StoreError, as_dirl_error, failed_counts, raise_failures
from dirl.core.files import no_room, read_json, remove_parts, write_json
from dirl.core.layout import CARD
from dirl.core.owner import MERGE_SECONDS, item_locked, locked, owning
from dirl.core.parallel import each
from dirl.core.progress import bar, say
from dirl.slides.base import MPP_IN_TABLE, MPP_REMEDY, SAME_MPP
from dirl.slides.discovery import (
    SlideInput,
    TilesInput,
    add_cohort,
    find_inputs,
    given_paths,
    source_digest,
    with_unique_names,
)
from dirl.slides.tiling import dotless
from dirl.slides.tissue import warn_all_tissue
from dirl.store.dataset import TileStore
from dirl.store.index import (
    INDEX,
    SLIDES,
    TILES_SCHEMA,
    SlideRecord,
    check_shards,
    merge,
    read_parquet,
    to_record,
)
from dirl.store.replace import check_replaceable
from dirl.store.tiles_writer import image_side, update_slide, write_ready, write_slide


def tile(
    inputs: Sequence[Path],
    out: Path,
    config: TileConfig | None = None,
    *,
    cohort: Path | None = None,
    workers: int = 1,
    overwrite: bool = False,
    quiet: bool = False,
) -> TileStore:
    """Cut slides into tiles at one resolution, or add ready-made tiles.

    Each slide has a tar of JPEG tiles and an index with their places. The index is written last, so a slide
    has all of its tiles or none. A second run makes only missing and damaged slides, and adds new inputs.

    Ready-made tiles keep their pixels and size, and have the resolution ``config.mpp_override``. The size and
    mpp of `config` are for slides. In a store with ready-made tiles, slides keep the resolution of their
    file or of the table.

    Parameters
    ----------
    inputs
        Slides, folders of slides, or folders of ready-made tiles by class; see
        `dirl.slides.discovery.find_inputs`. None: the slides of the cohort.
    out
        Directory of the store.
    config
        Settings of the tiles.
    cohort
        CSV file with path, patient, centre or mpp of slides; see `dirl.tables.cohort`. Patients and centres
        of slides that are already in the store are updated.
    workers
        Number of processes; each tiles one slide at a time.
    overwrite
        Tile the given slides again. Their cells are removed where the tiles change. Other slides are kept.
        With other settings than the store's, all of its slides must be given.
    quiet
        Show no progress bar.

    Returns
    -------
    TileStore

    Raises
    ------
    SlideError
        If no slide is found, or if the only slide cannot be tiled.
    ConfigError
        If the cohort's table cannot be used, or has none of these slides.
    StoreError
        If `out` was made with other settings, or is not a store. With `overwrite`, if a slide would be lost.
    PartlyFailedError
        If some of several slides cannot be tiled. The others are finished.
    OSError
        If the disk is full or read-only. Finished slides are kept.
    """
    store = tile_part(
        inputs,
        out,
        config,
        WHOLE,
        cohort=cohort,
        workers=workers,
        overwrite=overwrite,
        quiet=quiet,
    )
    assert store is not None, "all slides are one part, and its end writes the index"
    return store


@owning
def tile_part(
    inputs: Sequence[Path],
    out: Path,
    config: TileConfig | None,
    part: CohortPart,
    *,
    cohort: Path | None = None,
    workers: int = 1,
    overwrite: bool = False,
    quiet: bool = False,
) -> TileStore | None:
    """Do a part of `tile`, as one of several jobs with the same inputs and the same store.

    The part that ends last writes the index and returns the store. The others return None. `overwrite` is
    for all slides only: a part would remove what another has made.
    """
    refuse_overwrite(part, overwrite)
    there = _records(out)
    found = _as_there(find_inputs(given_paths(inputs, cohort), partial(say, quiet=quiet)), there)
    if cohort is not None:
        found = add_cohort(found, cohort, quiet=quiet)
    config = _resolve(config or TileConfig(), found)
    slides_config = _of_slides(config, found, there)
    card, anew = new_card("tile", config.model_dump()), False
    check_claim(out, card, overwrite=overwrite)
    if overwrite:
        anew = check_replaceable(out, card, slides_config, found, there, quiet=quiet)
    card = claim(out, card, overwrite=anew, shared=True)
    names = [item.slide_id for item in found]
    found = [item for item in found if part.has(item.slide_id)]
    todo, failures = _sort_out(out, found, [] if anew else there, card.files, overwrite)
    make = partial(_make, out, card.digest, config, slides_config, overwrite)
    with bar("Tiling", len(found), quiet=quiet) as advance:
        advance(len(found) - len(todo))
        for item, result in each(make, todo, workers):
            if isinstance(result, Exception):
                if no_room(result):
                    raise result
                failures[item.slide_id] = as_dirl_error(result, item.path)
            advance(note=item.slide_id)
    with locked(out, MERGE_SECONDS):
        files = _finished(out)
        everyone = end_part(out, part, names, failures)
        if not files and everyone is not None:
            raise_failures(everyone, 0)
        if everyone is not None:
            mark_unfinished(out, read_card(out))
            index = merge(files, out / INDEX, TILES_SCHEMA)
            write_json(out / SLIDES, [read_json(path.with_suffix(".json")) for path in files])
            finish(out, card, {"slides": len(files), "tiles": index.num_rows} | failed_counts(everyone))
    made = {item.slide_id for item in todo}
    slides = [one for one in _records(out) if one.kind == "slide" and one.slide_id in made]
    warn_all_tissue((one.slide_id, one.white, one.tissue_fraction) for one in slides)
    # With --mpp-override, the slides that are tiled would be others.
    raise_failures({name: _with_table(error) for name, error in failures.items()}, len(found) - len(failures))
    return TileStore.open(out) if everyone is not None else None


def _with_table(error: DirlError) -> DirlError:
    """Advise a table where a slide lacks its resolution."""
    if error.remedy != MPP_REMEDY:
        return error
    return SlideError(error.reason, where=error.where, remedy=MPP_IN_TABLE)


def _make(
    out: Path,
    card_digest: str,
    ready: TileConfig,
    slides: TileConfig,
    overwrite: bool,
    item: SlideInput | TilesInput,
) -> None:
    with item_locked(out, item.slide_id):
        card = read_card(out, "tile")
        if card.digest != card_digest:
            raise StoreError("another process replaced the store", where=out, remedy="give another directory")
        earlier = _made(out, item.slide_id, card.files)
        if earlier is not None and not overwrite:
            return  # another process made it in between
        for folder in ("tiles", "pictures"):
            remove_parts(out / folder, item.slide_id)
        if isinstance(item, TilesInput):
            write_ready(out, ready, item, earlier)
        else:
            write_slide(out, slides, item, earlier)


def _made(out: Path, slide_id: str, files: Mapping[str, FileDigest]) -> SlideRecord | None:
    """Read the record of a slide; None if its tiles are missing or damaged."""
    index = out / "tiles" / f"{slide_id}.parquet"
    names = (f"tiles/{slide_id}.parquet", f"tiles/{slide_id}.json", f"pictures/{slide_id}.jpg")
    if not are_whole(out, names, files):
        return None
    try:
        check_shards(out, read_parquet(index, "", schema=TILES_SCHEMA))
        return to_record(read_json(index.with_suffix(".json")))
    except (FileNotFoundError, ValueError, KeyError, TypeError, StoreError):
        return None


def _finished(out: Path) -> list[Path]:
    """Find the indices of all slides of a store that dirl wrote.

    Raises
    ------
    StoreError
        If one of them or its record is damaged: the index of the store would hold the damage.
    """
    card = read_card(out)
    files = [path for path in sorted((out / "tiles").glob("*.parquet")) if f"tiles/{path.name}" in card.files]
    for path in files:
        for name in (f"tiles/{path.name}", f"tiles/{path.stem}.json"):
            if not are_whole(out, [name], card.files):
                reason, remedy = "missing, or not as dirl wrote it", "run `dirl tile` on its slide again"
                raise StoreError(reason, where=out / name, remedy=remedy)
    return files


def _of_slides(
    config: TileConfig, found: Sequence[SlideInput | TilesInput], there: Sequence[SlideRecord]
) -> TileConfig:
    """Settings of slides: with ready-made tiles in the store, ``mpp_override`` is not for slides."""
    ready = any(isinstance(item, TilesInput) for item in found) or any(one.kind == "tiles" for one in there)
    return config.model_copy(update={"mpp_override": None}) if ready else config


def _resolve(config: TileConfig, found: Sequence[SlideInput | TilesInput]) -> TileConfig:
    """Complete `config`: the size and resolution of ready-made tiles, and the default stride."""
    classes = [item for item in found if isinstance(item, TilesInput)]
    if not classes:
        return config.model_copy(update={"stride_px": config.stride_px or config.size_px})
    if config.mpp_override is None:
        raise SlideError(
            "ready-made tiles give no resolution (mpp)", where=classes[0].path.parent, remedy=MPP_REMEDY
        )
    side, mpp = image_side(classes[0].files[0], config.max_pixels), config.mpp_override
    if len(classes) < len(found) and (side != config.size_px or abs(mpp / config.mpp - 1) > SAME_MPP):
        raise SlideError(
            f"ready-made tiles of {side} px at {mpp:g} µm/px beside slides for tiles of "
            f"{config.size_px} px at {config.mpp:g} µm/px",
            where=classes[0].path.parent,
            remedy=f"make two stores, or use the same for all: `dirl tile --size {side} --mpp {mpp:g}`",
        )
    return config.model_copy(update={"size_px": side, "mpp": mpp, "stride_px": side})


def _records(out: Path) -> list[SlideRecord]:
    """Records of the slides in a store, even if its last run did not finish; damaged ones are skipped."""
    if not (out / CARD).exists():
        return []
    listed = read_card(out).files
    records = [index.with_suffix(".json") for index in sorted((out / "tiles").glob("*.parquet"))]
    return [to_record(read_json(file)) for file in records if are_whole(out, [f"tiles/{file.name}"], listed)]


def _as_there(
    found: Sequence[SlideInput | TilesInput], there: Sequence[SlideRecord]
) -> list[SlideInput | TilesInput]:
    """Give each slide its name in the store: a name depends on the other inputs of the same run."""
    names = {os.path.realpath(one.path): one.slide_id for one in there}
    called = [names.get(os.path.realpath(one.path), one.slide_id) for one in found]
    return with_unique_names([replace(one, slide_id=name) for one, name in zip(found, called, strict=True)])


def _sort_out(
    out: Path,
    found: Sequence[SlideInput | TilesInput],
    there: Sequence[SlideRecord],
    files: Mapping[str, FileDigest],
    overwrite: bool,
) -> tuple[list[SlideInput | TilesInput], dict[str, DirlError]]:
    """Return the inputs to tile, and errors for names that another slide of the store has."""
    todo: list[SlideInput | TilesInput] = []
    failures: dict[str, DirlError] = {}
    keys = {dotless(one.slide_id): one for one in there}
    for item in found:
        same = keys.get(dotless(item.slide_id))
        if same is not None and same.slide_id != item.slide_id:
            failures[item.slide_id] = StoreError(
                f"its tiles would have the same names as those of slide {same.slide_id} in {out}",
                where=item.path,
                remedy="rename one of the two, or tile into another store",
            )
            continue
        record = None if overwrite else _made(out, item.slide_id, files)
        if record is None:
            todo.append(item)
        elif record.source != source_digest(item):
            failures[item.slide_id] = StoreError(
                f"{out} has a slide {item.slide_id} from another file or version of it, {record.path}",
                where=item.path,
                remedy="rename one of the two, or replace that slide with --overwrite",
            )
        elif item.from_table.mpp not in (None, record.mpp):
            failures[item.slide_id] = StoreError(
                f"slide {item.slide_id} was tiled in {out} with {record.mpp:g} µm/px, "
                f"but the table gives {item.from_table.mpp:g} now",
                where=item.path,
                remedy="correct the table, or replace this slide with --overwrite",
            )
        else:
            update_slide(out, record, item.from_table)
    return todo, failures
