"""The picture of each slide in a store: its tissue and its tiles."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from dirl.core.files import replacing
from dirl.slides.base import Slide
from dirl.slides.tiling import Tile, TileSpec
from dirl.slides.tissue import TissueMask, low_power

SIDE_PX = 1200
GAP_PX = 12
SHEET_COLUMNS, SHEET_ROWS = 12, 6
TISSUE_COLOUR = (0, 150, 60)
TILE_COLOUR = (20, 60, 200)


def draw_slide(path: Path, slide: Slide, tissue: TissueMask, tiles: Sequence[Tile], spec: TileSpec) -> None:
    """Write the slide's thumbnail, and beside it a copy with the tissue outlined and the tiles drawn."""
    mpp = max(max(slide.info.size_px) * slide.info.mpp / SIDE_PX, slide.info.mpp)
    plain = Image.fromarray(low_power(slide, mpp))
    marked = plain.copy()
    draw = ImageDraw.Draw(marked)
    scale, side = slide.info.mpp / mpp, spec.size_px * spec.mpp / mpp
    for tile in tiles:
        x, y = tile.x * scale, tile.y * scale
        draw.rectangle((x, y, x + side, y + side), outline=TILE_COLOUR, width=2)
    marked.paste(TISSUE_COLOUR, mask=Image.fromarray(_outline(tissue, mpp, plain.size)))
    _save(path, _beside(plain, marked))


def draw_sheet(path: Path, images: Sequence[NDArray[np.uint8]]) -> None:
    """Write a contact sheet of ready-made tiles."""
    side = SIDE_PX // SHEET_COLUMNS
    rows = -(-len(images) // SHEET_COLUMNS)
    sheet = Image.new("RGB", (SIDE_PX, rows * side), "white")
    for i, image in enumerate(images):
        small = Image.fromarray(image).resize((side - 4, side - 4), Image.Resampling.BOX)
        sheet.paste(small, (i % SHEET_COLUMNS * side + 2, i // SHEET_COLUMNS * side + 2))
    _save(path, sheet)


def _outline(tissue: TissueMask, mpp: float, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Outline of the mask on the thumbnail, two pixels wide."""
    width, height = size
    rows = np.minimum((np.arange(height) + 0.5) * mpp / tissue.mpp, tissue.mask.shape[0] - 1).astype(int)
    columns = np.minimum((np.arange(width) + 0.5) * mpp / tissue.mpp, tissue.mask.shape[1] - 1).astype(int)
    mask = tissue.mask[rows[:, None], columns]
    return np.asarray(mask & ~ndimage.binary_erosion(mask, iterations=2, border_value=1))


def _beside(left: Image.Image, right: Image.Image) -> Image.Image:
    both = Image.new("RGB", (left.width + GAP_PX + right.width, left.height), "white")
    both.paste(left, (0, 0))
    both.paste(right, (left.width + GAP_PX, 0))
    return both


def _save(path: Path, image: Image.Image) -> None:
    # Encoded first: if Pillow fails to write, it hides the reason, such as a full disk.
    data = io.BytesIO()
    image.save(data, "JPEG", quality=88)
    with replacing(path) as temporary:
        temporary.write_bytes(data.getvalue())
