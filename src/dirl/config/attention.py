"""How attention is measured, and mapped over a slide."""

from typing import Annotated, Literal

from pydantic import Field

from dirl.config.settings import Cells, Count, Positive, Seed, Settings, Share


class AuditConfig(Settings):
    """What an audit measures (`dirl audit`)."""

    tiles: Count = Field(256, description="Number of tiles to draw from the store.")
    cells: Cells = "hematoxylin"
    seed: Seed = 0
    min_area: Share = Field(0.01, description="Share of a tile that a region must cover to be measured.")
    bootstrap: Count = Field(1000, description="Number of resamples for the intervals.")
    full: bool = Field(False, description="Measure attention distance, sinks and rollout too: much slower.")
    figures: Annotated[int, Field(ge=0)] = Field(6, description="Number of tiles to draw.")
    confounder: bool = Field(
        False, description="Draw a green mark on half of the tiles, and test whether attention points at it."
    )


class MapConfig(Settings):
    """How a slide's attention is mapped (`dirl map`), from tiles that overlap."""

    mpp: Positive = Field(0.5, description="Resolution of the tiles in µm/px.")
    size_px: Count | None = Field(
        None, description="Side of a tile in pixels. By default 224, cut to whole patches of the encoder."
    )
    overlap: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.5, description="Share of a tile's side that the next tile covers too."
    )
    block: int = Field(-1, description="Block of the encoder, from 0; -1 is the last.")
    heads: Literal["mean", "each"] = Field(
        "mean", description="The mean of the heads; or that mean, and each head by itself."
    )
    within: Literal["tissue", "patches", "softmax", "rank"] = Field(
        "tissue",
        description="Scale within a tile. tissue: 1 is an even share of its tissue tokens. patches: 1 is an "
        "even share of all patch tokens. softmax: as patches, less the share of other tokens. rank: 0 to 1.",
    )
    between: str = Field(
        "uniform",
        description="Weight of a tile. uniform: none; patch-mass: its attention on patch tokens; or a CSV or "
        "Parquet file with x, y (level-0 px) and weight, from a slide model.",
    )
    min_tissue: Share = Field(0.0, description="Share of a tile that must be tissue.")
    mpp_override: Positive | None = Field(
        None, description="Resolution of the slide in µm/px, if its file gives none."
    )
    allow_upsample: bool = Field(False, description="Enlarge a slide that is coarser than the tiles.")
