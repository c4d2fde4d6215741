"""How slides become tiles and cells."""

from typing import Annotated

from pydantic import Field

from dirl.config.settings import Count, Positive, Settings, Share


class TileConfig(Settings):
    """How slides are cut into tiles (`dirl tile`).

    ``stride_px`` of None means the tile's own size; ``mpp_override`` states the mpp of ready-made tiles,
    or, without any, that of slides whose files name none or lie. ``max_tiles`` keeps, of each slide, those
    around the middle of its tissue. ``max_pixels`` limits plain images, which are held in memory whole; None
    is 1,000 million. No result depends on it, so cards leave it out.
    """

    mpp: Positive = 0.5
    size_px: Count = 224
    stride_px: Count | None = None
    min_tissue: Share = 0.5
    max_tiles: Count | None = None
    mpp_override: Positive | None = None
    allow_upsample: bool = False
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = 90
    max_pixels: Annotated[Count | None, Field(exclude=True)] = None


class CellsConfig(Settings):
    """How nuclei are found (`dirl cells`): in windows of the slide, each read with a halo around it.

    ``segmenter`` is a name that `dirl.cells.registry.load_segmenter` takes. ``name`` names
    its cells in the store; by default the segmenter's own.
    """

    segmenter: str = "hematoxylin"
    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$")] | None = None
    window_px: Count = 1024
    halo_px: Count = 64
