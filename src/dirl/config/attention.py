"""How attention is measured, and mapped over a slide."""

from typing import Annotated, Literal

from pydantic import Field

from dirl.config.settings import Count, Positive, Settings, Share


class AuditConfig(Settings):
    """What an audit measures (`dirl audit`).

    ``tiles`` is how many are drawn from the store; ``full`` adds what needs whole attention matrices;
    ``confounder`` plants a mark that gives a made-up class away, and asks whether attention points at it.
    """

    tiles: Count = 256
    cells: str = "hematoxylin"
    seed: int = 0
    min_area: Share = 0.01
    bootstrap: Count = 1000
    full: bool = False
    figures: Annotated[int, Field(ge=0)] = 6
    confounder: bool = False


class MapConfig(Settings):
    """How a slide's attention is mapped (`dirl map`): tiles of ``size_px`` at ``mpp``, which ``overlap``.

    ``size_px`` of None is 224, or as many whole patches of the encoder as lie in that.
    ``block`` counts from 0, or from the last with -1. ``within`` is the scale inside a tile, as in
    `dirl.maps.scaling.within_tile`; ``between`` what puts tiles on one scale: ``uniform``, ``patch-mass`` or
    a CSV or Parquet file of weights. Tiles with a smaller share of tissue than ``min_tissue`` are left out.
    """

    mpp: Positive = 0.5
    size_px: Count | None = None
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    block: int = -1
    heads: Literal["mean", "each"] = "mean"
    within: Literal["tissue", "patches", "softmax", "rank"] = "tissue"
    between: str = "uniform"
    min_tissue: Share = 0.0
    mpp_override: Positive | None = None
    allow_upsample: bool = False
