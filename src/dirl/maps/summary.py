"""What a map is: the type of its ``summary.json``. Without torch, so that readers start at once."""

from dirl.config.stages import MappedHeads, WithinTile
from dirl.core.results import Record, Summary

Size = tuple[int, int]


class MappedSlide(Record):
    """The slide; its size is width and height at level 0."""

    slide_id: str
    path: str
    digest: str
    mpp: float
    size_px: Size


class MappedEncoder(Record):
    """The encoder; see `dirl.encoders.attention.AttentionRows` for its query."""

    name: str
    spec: str
    digest: str
    blocks: int
    heads: int
    query: str


class Level(Record):
    """A level of the map's pyramid: width and height, and µm per pixel."""

    size_px: Size
    mpp: float


class Raster(Record):
    """Where the map lies on the slide.

    Attributes
    ----------
    size_px
        Width and height in tokens.
    mpp, level0_px
        Side of a token in µm and in level-0 pixels.
    offset_px
        Level-0 pixel, x and y, of its corner.
    frame
        ``qupath``: the corner is that of the slide's bounds, as in QuPath.
    levels
        From fine to coarse.
    """

    size_px: Size
    mpp: float
    level0_px: float
    offset_px: tuple[int, int]
    frame: str
    levels: list[Level]


class TilePlan(Record):
    """The tiles: number, side, µm per pixel, and how they overlap."""

    count: int
    size_px: int
    mpp: float
    level0_px: float
    tokens: int
    stride_tokens: int
    overlap: float
    min_tissue: float


class Tissue(Record):
    """Number of tokens on tissue, and of those that are mapped."""

    tokens: int
    mapped: int


class MapChannel(Record):
    """One image of the map.

    Attributes
    ----------
    head
        None for the mean of heads.
    file
        The 8-bit TIFF.
    range
        Values that are black and white in it.
    """

    name: str
    head: int | None
    file: str
    range: tuple[float, float]
    min: float
    median: float
    mean: float
    max: float


class Files(Record):
    """Names of the other files."""

    float: str
    regions: str
    figure: str
    tiles: str


class TopRegions(Record):
    """The regions with the most attention; the threshold is None if the map is flat."""

    count: int
    threshold: float | None
    rule: str


class Origin(Record):
    """What a map is of, and how it was made.

    Attributes
    ----------
    block
        From 0.
    heads, within, between
        As in `dirl.config.MapConfig`; of a file of weights, its name.
    unit
        What the numbers are, in words.
    """

    slide: MappedSlide
    encoder: MappedEncoder
    block: int
    heads: MappedHeads
    within: WithinTile
    between: str
    unit: str
    map: Raster

    def to_share(self) -> dict[str, object]:
        """Return what the TIFFs say of themselves, without paths of this machine."""
        parts = ("slide", "encoder", "block", "within", "between", "unit", "map")
        private = {"slide": {"path": True}, "encoder": {"spec": True}}
        found = self.model_dump(mode="json", include=set(parts), exclude=private)
        return {name: found[name] for name in parts}


class MapSummary(Origin, Summary):
    """What `dirl map` writes to ``summary.json``."""

    tiles: TilePlan
    tissue: Tissue
    channels: list[MapChannel]
    files: Files
    regions: TopRegions

    @property
    def counts(self) -> dict[str, object]:
        """Tiles and channels."""
        return {"tiles": self.tiles.count, "channels": len(self.channels)}

    def rows(self) -> list[dict[str, object]]:
        """One row for each channel."""
        return [channel.to_json() for channel in self.channels]
