"""The settings of the stages other than pretraining, in the order of the work."""

from enum import StrEnum, auto
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from dirl.config.settings import Cells, Count, Folds, Positive, Seed, Settings, Share
from dirl.core.precision import AskedPrecision

Corruption = Literal["jpeg", "pixelate", "defocus", "motion", "brightness",
                     "saturation", "hue", "stain", "pen", "bubble"]  # fmt: skip
Severity = Literal[1, 2, 3, 4, 5]
Damage = Literal[Corruption, "rotation"]
LABEL_COLUMNS = ("label", "slide_id", "patient_id")
"""Columns of a store that labels can come from."""

Neighbours = Annotated[
    tuple[Count, ...], Field(min_length=1, description="Numbers of nearest neighbours; the first is primary.")
]
Rates = Annotated[tuple[Positive, ...], Field(min_length=1, description="Learning rates to choose from.")]
Resamples = Annotated[int, Field(ge=1, description="Number of resamples for the intervals.")]


class TileConfig(Settings):
    """How slides are cut into tiles (`dirl tile`)."""

    mpp: Positive = Field(0.5, description="Resolution of tiles in µm/px.")
    size_px: Count = Field(224, description="Side of a tile in px.")
    stride_px: Count | None = Field(None, description="Step between tiles in pixels. By default the side.")
    min_tissue: Share = Field(0.5, description="Share of a tile that must be tissue; 0: any tissue.")
    max_tiles: Count | None = Field(None, description="Maximum number of tiles of a slide.")
    max_tiles_from: Literal["middle", "tissue"] = Field(
        "middle", description="Where they are from: around the middle, or drawn from all tissue."
    )
    mpp_override: Positive | None = Field(
        None, description="Resolution in µm/px of slides whose files give none or a wrong one."
    )
    allow_upsample: bool = Field(False, description="Enlarge slides coarser than the tiles.")
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = Field(90, description="Quality of the tiles' JPEG.")
    max_pixels: Count | None = Field(
        None,
        exclude=True,  # no result depends on it, so cards leave it out
        description="Maximum pixels of a plain image, at 7 bytes each. By default 1,000 million.",
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


Pool = Literal["model", "mean", "regions"]


class Tool(StrEnum):
    """A tool whose layout of features `dirl.features.handover.hand_over` writes."""

    CLAM = auto()
    TRIDENT = auto()
    STAMP = auto()
    ANNDATA = auto()


class EmbedConfig(Settings):
    """Which tiles are embedded, and how (`dirl embed`).

    `select` and `tiles` choose from a store; slides are always embedded completely. Features are float32 in
    any `precision`.
    """

    pool: Pool = Field(
        "model",
        description="model: the model's own pooling. mean: the mean of the patch tokens. regions: the mean "
        "over nuclei, then the mean over the rest of the tissue.",
    )
    cells: Cells = "hematoxylin"
    select: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="Share of each slide's tiles to keep, spread out."
    )
    tiles: Count | None = Field(
        None, description="Maximum number of a store's tiles, spread over its slides."
    )
    precision: AskedPrecision = Field(
        "auto",
        description="Of the forward passes; auto is bf16 if the GPU or CPU has it in hardware.",
    )
    seed: Seed = 0


class AuditConfig(Settings):
    """What an audit measures (`dirl audit`)."""

    tiles: Count = Field(64, description="Number of tiles to draw.")
    cells: Cells = "hematoxylin"
    seed: Seed = 0
    min_area: Share = Field(0.01, description="Share of a tile that a region must cover to be measured.")
    bootstrap: Count = Field(1000, description="Number of resamples for the intervals.")
    full: bool = Field(False, description="Measure attention distance, sinks and rollout too: much slower.")
    figures: Annotated[int, Field(ge=0)] = Field(6, description="Number of tiles to draw.")
    confounder: bool = Field(
        False, description="Draw a green mark on half of the tiles, and test whether attention points at it."
    )


class TokensConfig(Settings):
    """How patch tokens are scored (`dirl tokens`)."""

    tiles: Count = Field(300, description="Number of tiles to draw from the store.")
    cells: Cells = "hematoxylin"
    masks: str | None = Field(
        None,
        description="Your masks, in place of nuclei: DIR[,mpp=UM][,frame=auto|qupath|level0], a picture of "
        "class numbers for each slide or tile.",
    )
    share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="Share of a token that nuclei or a class must cover to make it one of theirs."
    )
    folds: Folds = 5
    seed: Seed = 0
    bootstrap: Count = Field(1000, description="Number of resamples for the intervals.")

    @model_validator(mode="after")
    def _one_task(self) -> "TokensConfig":
        if self.masks is not None and "cells" in self.model_fields_set:
            raise ValueError("masks: they take the place of cells; score each by itself, in two outputs")
        return self


MappedHeads = Literal["mean", "each"]
WithinTile = Literal["tissue", "patches", "softmax", "rank"]


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
    heads: MappedHeads = Field(
        "mean", description="The mean of the heads; or that mean, and each head by itself."
    )
    within: WithinTile = Field(
        "tissue",
        description="Scale of the attention in a tile. tissue: 1 is the mean of its tissue tokens. patches: "
        "1 is the mean of all its tokens. softmax: the share times the number of tokens. rank: 0 to 1.",
    )
    between: str = Field(
        "uniform",
        description="Weight of a tile against the others. uniform: 1. patch-mass: its attention on patch "
        "tokens. Or a CSV or Parquet file with x, y (level-0 px) and weight, such as a slide model's.",
    )
    min_tissue: Share = Field(0.0, description="Share of a tile that must be tissue.")
    mpp_override: Positive | None = Field(
        None, description="Resolution of the slide in µm/px, if its file gives none."
    )
    allow_upsample: bool = Field(False, description="Enlarge a slide that is coarser than the tiles.")


class TaskConfig(Settings):
    """What every evaluation of labelled tiles sets: grouped folds, nearest neighbours, and resamples."""

    folds: Folds = 5
    groups: Literal["auto", "patient", "stain", "given"] = Field(
        "auto",
        description="Tiles of one group are never in both training and test. auto: the labels' groups, "
        "else patients or slides, else stains.",
    )
    neighbours: Neighbours = (20, 5, 10)
    bootstrap: Resamples = 1000
    seed: Seed = 0


class ProbeConfig(TaskConfig):
    """How features are scored (`dirl probe`): nearest neighbours and a linear probe, on grouped folds."""

    evaluators: tuple[str, ...] = Field(
        (),
        description="Also score this classifier: a plugin, or package.module:FUNCTION. Repeat it for more.",
    )


class ReadoutsConfig(TaskConfig):
    """How several vectors of the same tokens are compared (`dirl readouts`)."""

    neighbours: Neighbours = (20,)
    tiles: Count = Field(2000, description="Number of labelled tiles to draw.")
    cells: str | None = Field(
        None, description="Name of the store's cells that make regions. Without it regions are no readout."
    )
    width: Count | None = Field(
        None, description="Number of features that each readout keeps. By default the encoder's width."
    )


class RobustConfig(TaskConfig):
    """How damage to tiles is measured (`dirl robust`): what damage, on how many tiles."""

    neighbours: Neighbours = (20,)
    tiles: Count = Field(500, description="Number of labelled tiles to draw.")
    damage: tuple[Damage, ...] = Field(
        (*get_args(Corruption), "rotation"),
        description="A corruption, or rotation. Repeat it for more. By default all.",
    )
    severities: tuple[Severity, ...] = Field(
        get_args(Severity), description="1 to 5. Repeat it for more. By default all."
    )

    @field_validator("damage", "severities")
    @classmethod
    def _each_once(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if not value or len({*value}) < len(value):
            raise ValueError("name at least one, and none twice")
        return value

    @property
    def corruptions(self) -> tuple[Corruption, ...]:
        """The damage that has severities."""
        return tuple(kind for kind in self.damage if kind != "rotation")


class FinetuneConfig(TaskConfig):
    """How an encoder is fine-tuned (`dirl finetune`) in each fold. Neighbours only tell whether colour leaks.

    The learning rate and the number of epochs are chosen on the share ``validation`` of each training part.
    """

    neighbours: Neighbours = (20,)
    tiles: Count | None = Field(
        None, description="Maximum number of tiles, the same as of `dirl embed --tiles`. By default all."
    )
    batch: Count = Field(32, description="Number of tiles in a training step.")
    epochs: Count = Field(20, description="Maximum number of epochs.")
    learning_rates: Rates = (1e-4, 1e-3)
    layer_decay: Annotated[float, Field(gt=0, le=1)] = Field(
        0.75, description="Factor of the learning rate for every block further from the head."
    )
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    validation: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.2, description="Share of each training part that is kept for validation."
    )


class MilConfig(Settings):
    """How slides are classified, or their survival is learnt (`dirl mil`), by nested cross-validation.

    The learning rate and the number of epochs are chosen in the inner folds of each training part.
    """

    folds: Folds = 5
    inner_folds: Annotated[int, Field(ge=2)] = Field(
        3, description="Number of folds in each training part, to choose learning rate and epochs."
    )
    groups: str = Field(
        "auto",
        description="Slides of one group are never in both training and test: patient, or a column of "
        "the labels. auto: the column group, else patients, else slides.",
    )
    survival: bool = Field(False, description="Learn the time to an event (Cox) instead of a class.")
    models: tuple[Literal["mean", "abmil", "clam", "transmil", "dsmil"], ...] | None = Field(
        None, description="A slide model. Repeat it for more. By default all that fit the task."
    )
    width: Annotated[int, Field(ge=4, multiple_of=4)] = Field(128, description="Width of the slide models.")
    epochs: Count = Field(20, description="Maximum number of epochs.")
    learning_rates: Rates = (1e-4, 1e-3)
    tiles: Count = Field(2048, description="Maximum number of a slide's tiles in a training step.")
    leave_out: bool = Field(False, description="Leave out unusable slides. Otherwise they are an error.")
    bootstrap: Resamples = 1000
    seed: Seed = 0
