"""A pretraining recipe: views, encoder, objective, dense term, optimiser."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from dirl.config.settings import Count, Positive, Settings, Share

Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
MAX_REGIONS = 255
"""Largest number of regions of a tile: ids are bytes, and 0 is no region."""


class ViewsConfig(Settings):
    """The random views of a tile: ``count`` global ones and, for multi-crop, ``local_count`` small ones.

    ``crop_area`` is the share of the tile's area that a crop takes, ``crop_aspect`` its width over its
    height. ``mpp_jitter`` multiplies or divides the crop's side, and so the view's mpp, by up to 1 + itself.
    The other ``*_jitter`` are half-widths of random factors (hue in turns); the ``p_*`` are probabilities.
    ``p_blur`` and ``p_solarise`` are one number, or one for each global view and one for the local views.
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

    ``init`` is the source of the starting weights; None is random. It is a file, a name of ``dirl encoders``,
    ``timm:NAME[,weights=FILE]``, ``timm:DIR``, ``hf:NAME_OR_DIR`` or the directory of a run.
    ``drop_tokens`` is the share of a view's
    patch tokens that training leaves out to save time. It draws them anew each time. The exported encoder
    uses all tokens. ``frozen_blocks`` freezes the patch embedding and this number of first blocks.
    ``checkpoint_blocks`` recomputes activations in the backward pass: slower, with less memory.
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
    """The self-supervised objective, by name, and its settings, which the objective itself checks."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str = "simclr"

    @property
    def options(self) -> dict[str, Any]:
        """The settings without the name."""
        return dict(self.model_extra or {})


class NoiseConfig(Settings):
    """Damage to the prior, to learn how much damage the effect survives (docs/method.md, Controls).

    ``strength`` is a share of nuclei for ``drop``, and a share of tiles for ``shuffle``. For ``dilate``,
    ``erode`` and ``shift`` it is in pixels; less than one pixel changes little or nothing.
    """

    kind: Literal["drop", "dilate", "erode", "shift", "shuffle"]
    strength: Annotated[float, Field(ge=0)]


class EntropyConfig(Settings):
    """A control without regions: a penalty on sparse attention of the class token (docs/method.md, Controls).

    The penalty is ``weight`` times one minus the normalised entropy of the last block's [CLS] row over the
    patch tokens. With ``of: joint`` it is the entropy of the heads' mean, with ``of: heads`` the mean of the
    heads' entropies.
    """

    weight: Annotated[float, Field(ge=0)] = 0.0
    of: Literal["heads", "joint"] = "joint"


Regions = Literal["cells", "classes", "tissue", "grid", "colour"]
Extract = Literal["pool", "cls", "disentangle"]
Match = Literal["semantic", "overlap", "instance"]
Control = Literal["shuffled", "moved", "grid", "matched-grid", "one", "twice", "tissue-only"]


WITHOUT_CELLS = ("grid", "colour")


class DenseConfig(Settings):
    """The dense term, which uses the prior. ``weight`` is λ: 0 is the vanilla objective.

    ``min_area`` is the share of a view that a region must cover to be present in it. ``negatives: tiles``
    uses the same region of other tiles; ``regions`` uses all other regions too, and needs a contrastive
    objective. ``ring_um`` is the width of the ring around nuclei, for ``regions: tissue``. ``grid_side`` is
    the number of boxes along each side of a tile, for ``regions: grid``. ``regions: colour`` cuts the tissue
    of each tile into terciles of red optical density, and uses no cells. ``heads: half`` makes region rows of
    the first half of the heads only, for ``extract: cls``. ``match: instance`` follows at most
    ``instances`` nuclei of a tile. The control ``matched-grid`` has three boxes, for ``regions: tissue``:
    about as many are present in both views as regions of ``tissue``. The controls ``one`` and ``twice`` have
    no regions. They ignore ``regions``, ``extract`` and ``match: overlap``, and refuse ``match: instance``.
    """

    weight: Annotated[float, Field(ge=0)] = 1.0
    regions: Regions = "cells"
    extract: Extract = "cls"
    match: Match = "semantic"
    negatives: Literal["tiles", "regions"] = "tiles"
    control: Control | None = None
    noise: NoiseConfig | None = None
    ring_um: Positive = 4.0
    grid_side: Count = 2
    heads: Literal["all", "half"] = "all"
    instances: Count = 8
    min_area: Share = 0.01

    @model_validator(mode="after")
    def _consistent(self) -> "DenseConfig":
        """Refuse settings that exclude each other, with the first reason that applies."""
        if not self.weight:  # nothing else has an effect
            return self
        match, regions, control, noise = self.match, self.regions, self.control, self.noise
        conflicts = {
            f"match: instance follows single nuclei, so it goes with regions: cells, not {regions}": (
                match == "instance" and regions != "cells"
            ),
            f"match: instance follows single nuclei, which control: {control} does not have": (
                match == "instance" and control not in (None, "shuffled", "moved")
            ),
            f"regions: {regions} has no cells for control: {control} to change": (
                regions in WITHOUT_CELLS and control not in (None, "one", "twice")
            ),
            f"regions: {regions} has no cells for noise to damage": (
                regions in WITHOUT_CELLS and noise is not None
            ),
            f"heads: half makes rows of heads, which extract: {self.extract} does not": (
                self.heads == "half" and self.extract != "cls"
            ),
            f"control: matched-grid goes with regions: tissue, not {regions}; use control: grid": (
                control == "matched-grid" and regions != "tissue"
            ),
            f"noise damages a tile's true cells, which control: {control} does not have": (
                noise is not None and control is not None
            ),
            f"grid_side: more than {MAX_REGIONS} regions": (
                regions == "grid" and self.grid_side**2 > MAX_REGIONS
            ),
        }
        if noise is not None:
            reason = f"noise.strength: a share of {noise.strength:g} to {noise.kind}, above 1"
            conflicts[reason] = noise.kind in ("drop", "shuffle") and noise.strength > 1
        for reason in (reason for reason, applies in conflicts.items() if applies):
            raise ValueError(reason)
        return self

    @property
    def role(self) -> Literal["vanilla", "noise", "control", "dirl"]:
        """What a run with these settings is: vanilla, DiRL with damaged cells, a control, or DiRL."""
        if not self.weight:
            return "vanilla"
        if self.noise is not None:
            return "noise"
        return "control" if self.control is not None or self.regions in WITHOUT_CELLS else "dirl"


class OptimiserConfig(Settings):
    """AdamW with a linear warm-up and a cosine decay; ``lr`` is at a batch of 256 and scales with it.

    ``layer_decay`` multiplies the rate once more for every block further from the output.
    ``weight_decay_end`` is the decay at the end of a cosine; None keeps it constant. ``accumulate`` cuts a
    batch into this number of parts, run one after the other.
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
    """Everything that determines a pretraining run except the store.

    ``batch`` counts tiles over all devices and accumulated parts. ``holdout`` is the share of tiles that are
    never trained on. ``select`` trains on a share of each slide's other tiles, which `dirl.store.select`
    selects; None is all. ``balance: centre`` draws tiles of every centre equally often.
    """

    seed: int = 0
    steps: Count = 1000
    batch: Annotated[int, Field(ge=2)] = 128
    balance: Literal["centre"] | None = None
    cells: str = "hematoxylin"
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    select: Annotated[float, Field(gt=0, le=1)] | None = None
    precision: Precision = "auto"
    checkpoint_every_steps: Count = 100
    log_every_steps: Count = 10
    views: ViewsConfig = ViewsConfig()
    encoder: EncoderConfig = EncoderConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    dense: DenseConfig = DenseConfig()
    entropy: EntropyConfig = EntropyConfig()
    optimiser: OptimiserConfig = OptimiserConfig()

    @property
    def role(self) -> Literal["vanilla", "noise", "control", "dirl"]:
        """What a run of it is: vanilla, DiRL with damaged cells, a control, or DiRL.

        A penalty on sparse attention makes any run a control.
        """
        return "control" if self.entropy.weight else self.dense.role
