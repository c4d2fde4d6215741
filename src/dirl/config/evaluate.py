"""How features and encoders are scored: patches, damage, fine-tuning, slides."""

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator

from dirl.config.settings import Count, Positive, Settings

Corruption = Literal["jpeg", "pixelate", "defocus", "motion", "brightness",
                     "saturation", "hue", "stain", "pen", "bubble"]  # fmt: skip
Severity = Literal[1, 2, 3, 4, 5]
Damage = Literal[Corruption, "rotation"]
Neighbours = Annotated[tuple[Count, ...], Field(min_length=1)]


class ProbeConfig(Settings):
    """How features are scored (`dirl probe`): nearest neighbours and a linear probe on grouped folds."""

    folds: Annotated[int, Field(ge=2)] = 5
    groups: Literal["auto", "patient", "stain", "given"] = "auto"
    neighbours: Neighbours = (20, 5, 10)
    bootstrap: Count = 1000
    seed: int = 0


class RobustConfig(ProbeConfig):
    """How damage to tiles is measured (`dirl robust`): a probe's settings, what damage, on how many tiles."""

    neighbours: Neighbours = (20,)
    tiles: Count = 500
    damage: tuple[Damage, ...] = (*get_args(Corruption), "rotation")
    severities: tuple[Severity, ...] = get_args(Severity)

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

    ``tiles`` of None are all. The learning rate, one of ``learning_rates``, and the number of epochs, at most
    ``epochs``, are chosen on ``aside``, a share of each training part. ``layer_decay`` multiplies the rate
    once more for every block further from the head. ``neighbours`` say whether colour alone tells the
    classes.
    """

    neighbours: Neighbours = (20,)
    tiles: Count | None = None
    batch: Count = 32
    epochs: Count = 20
    learning_rates: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1e-4, 1e-3)
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 0.75
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    aside: Annotated[float, Field(gt=0, lt=1)] = 0.2


class MilConfig(Settings):
    """How slides are classified, or their survival is learnt (`dirl mil`), by nested cross-validation.

    ``groups`` is what never stands on both sides: ``auto`` is the labels' column group, else patients, else
    slides; ``patient``; or the name of a column of the labels. ``models`` of None are all that the task
    allows. The learning rate, one of ``learning_rates``, and the number of epochs, at most ``epochs``, are
    chosen in ``inner_folds`` folds of each training part. ``tiles`` is how many of a slide's tiles, drawn
    anew each time, are trained on at once. ``leave_out`` leaves out what else is refused: labels of slides
    without features, slides without tiles, features that are not finite.
    """

    folds: Annotated[int, Field(ge=2)] = 5
    inner_folds: Annotated[int, Field(ge=2)] = 3
    groups: str = "auto"
    survival: bool = False
    models: tuple[Literal["mean", "abmil", "clam", "transmil", "dsmil"], ...] | None = None
    width: Annotated[int, Field(ge=4, multiple_of=4)] = 128
    epochs: Count = 20
    learning_rates: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1e-4, 1e-3)
    tiles: Count = 2048
    leave_out: bool = False
    bootstrap: Count = 1000
    seed: int = 0
