"""How features and encoders are scored: tiles, damage, fine-tuning, slides."""

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator

from dirl.config.settings import Count, Folds, Positive, Seed, Settings

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


class ProbeConfig(Settings):
    """How features are scored (`dirl probe`): nearest neighbours and a linear probe, on grouped folds."""

    folds: Folds = 5
    groups: Literal["auto", "patient", "stain", "given"] = Field(
        "auto",
        description="Tiles of one group are never in both training and test. auto: the labels' groups, "
        "else patients or slides, else stains.",
    )
    neighbours: Neighbours = (20, 5, 10)
    bootstrap: Resamples = 1000
    seed: Seed = 0


class RobustConfig(ProbeConfig):
    """How damage to tiles is measured (`dirl robust`): a probe's settings, what damage, on how many tiles."""

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
    def corruptions(self) -> tuple[str, ...]:
        """The damage that has severities."""
        return tuple(kind for kind in self.damage if kind != "rotation")


class FinetuneConfig(ProbeConfig):
    """How an encoder is fine-tuned (`dirl finetune`): a probe's folds, and how it learns in each.

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
