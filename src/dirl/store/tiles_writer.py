"""Writing one slide, or one class of ready-made tiles, into a store."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from dirl.config import TileConfig
from dirl.core.errors import SlideError
from dirl.core.files import replacing, write_json
from dirl.slides.discovery import SlideInput, TilesInput, source_digest
from dirl.slides.glass import WHITE, Colour, tinted_glass
from dirl.slides.image import open_image
from dirl.slides.tiling import Tile, dotless
from dirl.slides.tissue import MASK_MPP, tissue_pixels
from dirl.store.cut import cut_slide
from dirl.store.index import TILES_SCHEMA, SlideRecord, to_json, write_parquet
from dirl.store.picture import SHEET_COLUMNS, SHEET_ROWS, draw_sheet, draw_slide
from dirl.store.replace import remove_earlier
from dirl.store.shards import ShardWriter
from dirl.tables.cohort import FromTable

# Full chroma, since colour separates hematoxylin from eosin. At quality 90, halving the chroma raises the
# error of the hematoxylin density by more than half, and saves a quarter of the bytes. 4:4:4 at a lower
# quality of the same size still has the smaller error.
SUBSAMPLING = "444"


@dataclass(frozen=True)
class _Entry:
    tile: Tile
    jpeg: bytes


def write_slide(out: Path, config: TileConfig, item: SlideInput, earlier: SlideRecord | None = None) -> None:
    """Tile a slide into the store `out`: tar, picture, record and, last, its index. Raises as `cut_slide`.

    `earlier` is the record of its tiles that are replaced. They are kept if the slide cannot be tiled.
    """
    cut = cut_slide(item, config)
    try:
        remove_earlier(out, earlier, cut.record)
        table = _write_shard(
            out,
            cut.record,
            None,
            (_Entry(tile, _encode(cut.image(i), config.jpeg_quality)) for i, tile in enumerate(cut.tiles)),
        )
        picture = out / "pictures" / f"{cut.record.slide_id}.jpg"
        draw_slide(picture, cut.slide, cut.tissue, cut.tiles, cut.spec)
    finally:
        cut.close()
    _commit(out, cut.record, table)


def write_ready(out: Path, config: TileConfig, item: TilesInput, earlier: SlideRecord | None = None) -> None:
    """Add a class of ready-made tiles to the store `out`; see `write_slide`.

    Baseline RGB JPEGs are kept byte for byte. All other files are encoded again. A `SlideError` tells that a
    file cannot be read, or that the tiles are not all square and of the store's size.
    """
    _check_sizes(item, config)
    stems = Counter(dotless(file.stem) for file in item.files)
    shown = np.linspace(0, len(item.files) - 1, SHEET_COLUMNS * SHEET_ROWS).astype(int)
    to_show, sheet, fractions = set(shown.tolist()), [], []
    tinted = _tinted_glass([item.files[i] for i in sorted(to_show)], config)

    def entries() -> Iterator[_Entry]:
        for i, file in enumerate(item.files):
            rgb, jpeg = _load(file, config)
            fractions.append(_tissue_share(rgb, config.mpp, tinted))
            if i in to_show:
                sheet.append(rgb)
            name = dotless(file.stem) if stems[dotless(file.stem)] == 1 else dotless(file.name)
            yield _Entry(Tile(f"{dotless(item.slide_id)}/{name}", 0, 0, fractions[-1]), jpeg)

    record = SlideRecord(
        kind="tiles",
        slide_id=item.slide_id,
        path=item.path,
        patient_id=item.from_table.patient_id,
        size_px=(config.size_px, config.size_px),
        mpp=config.mpp,
        level_downsamples=(1.0,),
        white=tinted or WHITE,
        tissue_fraction=0.0,
        tiles=len(item.files),
        source=source_digest(item),
        centre=item.from_table.centre,
    )
    remove_earlier(out, earlier, record)
    table = _write_shard(out, record, item.path.name, entries())
    draw_sheet(out / "pictures" / f"{item.slide_id}.jpg", sheet)
    _commit(out, replace(record, tissue_fraction=float(np.mean(fractions))), table)


def update_slide(out: Path, record: SlideRecord, row: FromTable) -> None:
    """Update the patient and the centre of a slide that is already in the store."""
    changed = replace(
        record, patient_id=row.patient_id or record.patient_id, centre=row.centre or record.centre
    )
    if changed == record:
        return
    table = pq.read_table(out / "tiles" / f"{record.slide_id}.parquet", schema=TILES_SCHEMA)
    for name in ("patient_id", "centre"):
        column = pa.array([getattr(changed, name)] * len(table), pa.string())
        table = table.set_column(table.column_names.index(name), TILES_SCHEMA.field(name), column)
    # The record comes last: it shows whether the slide is up to date.
    write_parquet(out / "tiles" / f"{record.slide_id}.parquet", table)
    write_json(out / "tiles" / f"{record.slide_id}.json", to_json(changed))


def image_side(file: Path, max_pixels: int | None) -> int:
    """Side of a square image with at most `max_pixels`. Any other image is a `SlideError`."""
    width, height = open_image(file, max_pixels).size_px
    if width != height:
        raise SlideError(
            f"ready-made tiles must be square, but this is {width}×{height} px",
            where=file,
            remedy="crop them",
        )
    return width


def _write_shard(out: Path, record: SlideRecord, label: str | None, entries: Iterable[_Entry]) -> pa.Table:
    shard = f"tiles/{record.slide_id}.tar"
    rows = []
    with replacing(out / shard) as temporary, ShardWriter(temporary) as tar:
        for entry in entries:
            tile = entry.tile
            place = tar.add(f"{tile.tile_id}.jpg", entry.jpeg)
            who = (tile.tile_id, record.slide_id, record.patient_id, record.centre, label)
            rows.append((*who, tile.x, tile.y, tile.tissue_fraction, shard, *place))
    columns = {name: [row[i] for row in rows] for i, name in enumerate(TILES_SCHEMA.names)}
    return pa.table(columns, TILES_SCHEMA)


def _commit(out: Path, record: SlideRecord, table: pa.Table) -> None:
    write_json(out / "tiles" / f"{record.slide_id}.json", to_json(record))
    write_parquet(out / "tiles" / f"{record.slide_id}.parquet", table)


def _encode(rgb: NDArray[np.uint8], quality: int) -> bytes:
    return bytes(
        simplejpeg.encode_jpeg(np.ascontiguousarray(rgb), quality=quality, colorsubsampling=SUBSAMPLING)
    )


def _load(file: Path, config: TileConfig) -> tuple[NDArray[np.uint8], bytes]:
    """Pixels of a tile, and its JPEG."""
    rgb, data = _decode(file, config.max_pixels)
    return rgb, _encode(rgb, config.jpeg_quality) if data is None else data


def _decode(file: Path, max_pixels: int | None) -> tuple[NDArray[np.uint8], bytes | None]:
    """Pixels of a tile, and its bytes if it is a baseline RGB JPEG."""
    picture = open_image(file, max_pixels)
    # The brightest pixel of one tile does not show how many bits the scanner used.
    return picture.pixels(guess=False), file.read_bytes() if picture.jpeg else None


def _tinted_glass(files: Sequence[Path], config: TileConfig) -> Colour | None:
    """Colour of the glass of ready-made tiles if it is tinted or dim, else None."""
    factor = max(1, round(MASK_MPP / config.mpp))
    images = (_decode(file, config.max_pixels)[0] for file in files)
    small = [np.asarray(Image.fromarray(rgb).reduce(factor)) for rgb in images]
    smooth = [ndimage.uniform_filter(rgb, (3, 3, 0), mode="nearest") for rgb in small]
    return tinted_glass(np.concatenate(smooth))


def _tissue_share(rgb: NDArray[np.uint8], mpp: float, white: Colour | None) -> float:
    """Share of tissue, measured at about 4 µm/px, which is fine enough."""
    factor = max(1, min(round(4.0 / mpp), min(rgb.shape[:2])))
    small = np.asarray(Image.fromarray(rgb).reduce(factor))
    return float(tissue_pixels(small, mpp * factor, white).mean())


def _check_sizes(item: TilesInput, config: TileConfig) -> None:
    side = config.size_px
    counts = Counter(open_image(file, config.max_pixels).size_px for file in item.files)
    if set(counts) != {(side, side)}:
        sizes = ", ".join(f"{n} of {w}×{h}" for (w, h), n in counts.most_common(5))
        raise SlideError(
            f"ready-made tiles must all be {side}×{side} px like the first one; there are {sizes}",
            where=item.path,
            remedy="crop or resize the others, or make one store per size",
        )
