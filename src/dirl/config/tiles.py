"""How slides become tiles and cells."""

from typing import Annotated

from pydantic import Field

from dirl.config.settings import Count, Positive, Settings, Share


class TileConfig(Settings):
    """How slides are cut into tiles (`dirl tile`)."""

    mpp: Positive = Field(0.5, description="Resolution of the tiles in µm/px.")
    size_px: Count = Field(224, description="Side of a tile in pixels.")
    stride_px: Count | None = Field(None, description="Step between tiles in pixels. By default the side.")
    min_tissue: Share = Field(0.5, description="Share of a tile that must be tissue.")
    max_tiles: Count | None = Field(
        None, description="Maximum number of tiles of a slide: those around the middle of its tissue."
    )
    mpp_override: Positive | None = Field(
        None, description="Resolution in µm/px of slides whose files give none or a wrong one."
    )
    allow_upsample: bool = Field(False, description="Enlarge slides that are coarser than the tiles.")
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = Field(90, description="Quality of the tiles' JPEG.")
    max_pixels: Count | None = Field(
        None,
        exclude=True,  # no result depends on it, so cards leave it out
        description="Maximum number of pixels of a plain image. Each pixel needs 7 bytes of memory. "
        "By default 1,000 million.",
    )


class CellsConfig(Settings):
    """How nuclei are found (`dirl cells`): in windows of the slide, each read with a halo around it."""

    segmenter: str = Field(
        "hematoxylin",
        description="Nuclei of QuPath: geojson:DIR[,frame=auto|qupath|level0]. Of other tools: "
        "labels:DIR[,mpp=UM][,frame=…], hovernet-json:DIR, cellvit-json:DIR, imagej-rois:DIR. "
        "A segmenter: NAME[,key=value…], such as hovernet,weights=FILE, or package.module:attribute. "
        "`dirl doctor` lists the names.",
    )
    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$")] | None = Field(
        None, description="Name of the cells in the store. By default the segmenter's."
    )
    window_px: Count = Field(1024, description="Side of a window in pixels.")
    halo_px: Count = Field(64, description="Width of the halo around a window in pixels.")
