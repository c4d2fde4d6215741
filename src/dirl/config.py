"""What a user writes: one strict model per stage, recipes in YAML, and ``--set key=value`` on top."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from dirl.errors import ConfigError

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Corruption = Literal["jpeg", "pixelate", "defocus", "motion", "brightness",
                     "saturation", "hue", "stain", "pen", "bubble"]  # fmt: skip
Severity = Literal[1, 2, 3, 4, 5]
Damage = Literal[Corruption, "rotation"]


class Settings(BaseModel):
    """Frozen settings in which an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TileConfig(Settings):
    """How slides are cut into tiles (`dirl tile`).

    ``stride_px`` of None means the tile's own size; ``mpp_override`` states the mpp of slides and tiles
    whose files name none. ``max_tiles`` keeps, of each slide, those around the middle of its tissue.
    """

    mpp: Positive = 0.5
    size_px: Count = 224
    stride_px: Count | None = None
    min_tissue: Share = 0.5
    max_tiles: Count | None = None
    mpp_override: Positive | None = None
    allow_upsample: bool = False
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = 90


class CellsConfig(Settings):
    """How nuclei are found (`dirl cells`): in windows of the slide, each read with a halo around it.

    ``segmenter`` is as `dirl.cells.named.load_segmenter` takes it; ``name`` is under which its cells lie in
    the store, by default the segmenter's own.
    """

    segmenter: str = "hematoxylin"
    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$")] | None = None
    window_px: Count = 1024
    halo_px: Count = 64


class ViewsConfig(Settings):
    """The random views of a tile: ``count`` global ones and, for multi-crop, ``local_count`` small ones.

    ``crop_area`` is the share of the tile's area that a crop takes, ``crop_aspect`` its width over its
    height; ``mpp_jitter`` multiplies the crop's side, and so the view's mpp, by up to 1 + itself, or divides
    it; the other ``*_jitter`` are the half-widths of the random factors (hue in turns), the ``p_*``
    probabilities. A ``p_blur`` or ``p_solarise`` may be one number, or one for each global view followed by
    one for the local views where there are any.
    """

    count: Annotated[int, Field(ge=2)] = 2
    size_px: Count = 96
    crop_area: tuple[Positive, Positive] = (0.3, 1.0)
    crop_aspect: tuple[Positive, Positive] = (0.8, 1.25)
    local_count: Annotated[int, Field(ge=0)] = 0
    local_size_px: Count = 48
    local_crop_area: tuple[Positive, Positive] = (0.05, 0.3)
    mpp_jitter: Annotated[float, Field(ge=0, le=1)] = 0.0
    p_flip: Share = 0.5
    rotation: Literal["none", "quarter", "any"] = "quarter"
    brightness_jitter: Share = 0.4
    contrast_jitter: Share = 0.4
    saturation_jitter: Share = 0.4
    hue_jitter: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    p_colour: Share = 0.8
    p_grayscale: Share = 0.2
    stain_jitter: Annotated[float, Field(ge=0, lt=1)] = 0.0
    p_stain_swap: Share = 0.0
    p_blur: Share | tuple[Share, ...] = 0.5
    blur_sigma_px: tuple[Positive, Positive] = (0.1, 1.5)
    p_solarise: Share | tuple[Share, ...] = 0.0

    @model_validator(mode="after")
    def _consistent(self) -> "ViewsConfig":
        for name in ("crop_area", "local_crop_area", "crop_aspect", "blur_sigma_px"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} must be (smaller, larger), got ({low}, {high})")
        if self.crop_area[1] > 1 or self.local_crop_area[1] > 1:
            raise ValueError("crop_area is a share of the tile, at most 1")
        kinds = self.count + (self.local_count > 0)
        for name in ("p_blur", "p_solarise"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != kinds:
                raise ValueError(f"{name} must be one number or {kinds}, got {len(value)}")
        return self


class EncoderConfig(Settings):
    """A timm vision transformer. None leaves the architecture's own value.

    ``init`` is where its weights come from before training: ``timm:NAME[,weights=FILE]``, ``hf:NAME_OR_DIR``
    or a run's directory; None is random. ``drop_tokens`` is the share of a view's patch tokens, drawn anew
    each time, that the student is trained without, to save time; the encoder that comes out sees all.
    ``frozen_blocks`` keeps the patch embedding and so many of the first blocks as they were.
    ``checkpoint_blocks`` recomputes activations in the backward pass: slower, in less memory.
    """

    name: str = "vit_small_patch16_224"
    patch_px: Count | None = None
    width: Count | None = None
    depth: Count | None = None
    heads: Count | None = None
    registers: Annotated[int, Field(ge=0)] | None = None
    drop_path: Share = 0.0
    drop_tokens: Annotated[float, Field(ge=0, lt=1)] = 0.0
    init: str | None = None
    frozen_blocks: Annotated[int, Field(ge=0)] = 0
    checkpoint_blocks: bool = False
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)


class ObjectiveConfig(Settings):
    """The self-supervised objective, by name, and its own settings, which it checks itself."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str = "simclr"

    @property
    def options(self) -> dict[str, Any]:
        """What is set beside the name."""
        return dict(self.model_extra or {})


class NoiseConfig(Settings):
    """Damage done to the prior, to learn how it is borne (METHOD: prior noise).

    ``strength`` is the share of nuclei dropped, the pixels by which nuclei grow, shrink or shift (less than
    one changes little or nothing), or the share of tiles whose nuclei are another tile's.
    """

    kind: Literal["drop", "dilate", "erode", "shift", "shuffle"]
    strength: Annotated[float, Field(ge=0)]


class DenseConfig(Settings):
    """The prior-guided dense term. ``weight`` is λ: 0 is the vanilla objective.

    ``min_area`` is the share of a view that a region must cover to be present in it. ``negatives`` of a
    contrastive objective are the same region of other tiles, or every other region too. ``ring_um`` is the
    width of the ring around nuclei in the set ``tissue``, ``grid_side`` the side of the set ``grid``,
    ``instances`` the most nuclei of a tile that ``match: instance`` follows. The controls ``one`` and
    ``twice`` know no regions: ``regions``, ``extract`` and ``match`` mean nothing to them.
    """

    weight: Annotated[float, Field(ge=0)] = 1.0
    regions: Literal["cells", "classes", "tissue", "grid"] = "cells"
    extract: Literal["pool", "cls", "disentangle"] = "cls"
    match: Literal["semantic", "overlap", "instance"] = "semantic"
    negatives: Literal["tiles", "regions"] = "tiles"
    control: Literal["shuffled", "moved", "grid", "one", "twice", "tissue-only"] | None = None
    noise: NoiseConfig | None = None
    ring_um: Positive = 4.0
    grid_side: Count = 2
    instances: Count = 8
    min_area: Share = 0.01


class OptimiserConfig(Settings):
    """AdamW with a linear warm-up and a cosine decay; ``lr`` is at a batch of 256 and scales with it.

    ``layer_decay`` multiplies the rate once more for every block further from the output.
    ``weight_decay_end`` is where the decay ends on its cosine way; None keeps it. ``accumulate`` cuts a
    batch into so many parts, run one after the other.
    """

    lr: Positive = 1e-3
    min_lr: Annotated[float, Field(ge=0)] = 1e-6
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    weight_decay_end: Annotated[float, Field(ge=0)] | None = None
    warmup_share: Share = 0.1
    betas: tuple[Share, Share] = (0.9, 0.95)
    clip_norm: Positive | None = 3.0
    accumulate: Count = 1


class PretrainRecipe(Settings):
    """Everything that determines a pretraining run, but for the store.

    ``batch`` counts tiles over all devices and accumulated parts; ``holdout`` is the share of tiles that is
    never trained on. ``select`` trains on this share of each slide's other tiles, selected by
    `dirl.store.select`; None is all. ``balance: centre`` draws tiles of every centre equally often.
    """

    seed: int = 0
    steps: Count = 1000
    batch: Annotated[int, Field(ge=2)] = 128
    balance: Literal["centre"] | None = None
    cells: str = "hematoxylin"
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    select: Annotated[float, Field(gt=0, le=1)] | None = None
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    checkpoint_every_steps: Count = 100
    log_every_steps: Count = 10
    views: ViewsConfig = ViewsConfig()
    encoder: EncoderConfig = EncoderConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    dense: DenseConfig = DenseConfig()
    optimiser: OptimiserConfig = OptimiserConfig()


class ProbeConfig(Settings):
    """How features are scored (`dirl probe`): METHOD's kNN and linear protocols on grouped folds."""

    folds: Annotated[int, Field(ge=2)] = 5
    groups: Literal["auto", "patient", "stain", "given"] = "auto"
    neighbours: tuple[Count, ...] = (20, 5, 10)
    bootstrap: Count = 1000
    seed: int = 0


class RobustConfig(ProbeConfig):
    """How damage to tiles is measured (`dirl robust`): a probe's settings, what damage, on how many tiles."""

    neighbours: tuple[Count, ...] = (20,)
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

    neighbours: tuple[Count, ...] = (20,)
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


Model = TypeVar("Model", bound=Settings)


def make(model: type[Model], values: Mapping[str, Any], *, where: object = None) -> Model:
    """Validate `values`, and say what is wrong with which key in one line.

    Raises
    ------
    ConfigError
        If a key is unknown or a value does not fit.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = []
        for item in error.errors():
            key = ".".join(str(part) for part in item["loc"]) or "(all)"
            if item["type"] == "extra_forbidden":
                known = ", ".join(sorted(_fields_at(model, item["loc"][:-1])))
                problems.append(f"unknown key {key} (there are: {known})")
            else:
                problems.append(f"{key}: {item['msg'].removeprefix('Value error, ')} (got {item['input']!r})")
        raise ConfigError("; ".join(problems), where=where, remedy="correct it and run again") from None


def load_recipe(spec: str | Path, overrides: Sequence[str] = ()) -> PretrainRecipe:
    """Read a pretraining recipe and lay ``key=value`` overrides over it.

    Parameters
    ----------
    spec
        A YAML file, or the name of a recipe that ships with dirl.
    overrides
        ``dotted.key=value`` items; the value is read as YAML.

    Raises
    ------
    ConfigError
        If there is no such recipe, or it does not hold a valid one.
    """
    values = read_settings(spec, "recipes")
    for item in overrides:
        key, equals, value = item.partition("=")
        if not equals:
            raise ConfigError("not of the form key=value", where=f"--set {item}")
        _assign(values, key.strip(), _parse(value, f"--set {item}"), item)
    return make(PretrainRecipe, values, where=spec)


def read_settings(spec: str | Path, kind: Literal["recipes", "studies"]) -> dict[str, Any]:
    """Read a YAML file of settings, or one of those of a kind that ship with dirl, by name.

    Raises
    ------
    ConfigError
        If there is no such file, or it holds no mapping.
    """
    path = Path(spec)
    shipped = files("dirl") / kind
    if not path.is_file() and (shipped / f"{spec}.yaml").is_file():
        text = (shipped / f"{spec}.yaml").read_text(encoding="utf-8")
    else:
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            known = ", ".join(sorted(p.name.removesuffix(".yaml") for p in shipped.iterdir()))
            raise ConfigError(
                f"cannot read it ({error.strerror})",
                where=spec,
                remedy=f"name a YAML file, or one of: {known}",
            ) from None
    values = _parse(text, spec) or {}
    if not isinstance(values, dict):
        raise ConfigError("settings are a mapping of keys to values", where=spec)
    return values


def to_yaml(settings: Settings) -> str:
    """Write settings as YAML that `load_recipe` reads back to an equal object."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)


class _Loader(yaml.SafeLoader):
    """YAML in which no key may stand twice: of two arms or settings of one name, the first would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if twice := sorted({key for key in keys if keys.count(key) > 1}):
            raise yaml.YAMLError(f"{twice[0]} stands twice in one section, line {node.start_mark.line + 1}")
        return super().construct_mapping(node, deep)


def _parse(text: str, where: object) -> Any:
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML ({' '.join(str(error).split())})", where=where) from None


def _assign(values: dict[str, Any], key: str, value: Any, item: str) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{parent} holds a value, not a section", where=f"--set {item}")
    values[last] = value


def _fields_at(model: type[BaseModel], parents: Sequence[int | str]) -> list[str]:
    for parent in parents:
        annotation = model.model_fields[str(parent)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)
