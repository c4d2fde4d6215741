"""Checks of a recipe against its objective and its tiles, before training."""

import math
import warnings

import numpy as np

from dirl.config import EncoderConfig, PretrainRecipe, ViewsConfig
from dirl.core.errors import ConfigError, DirlWarning
from dirl.encoders.pretrained import InitReport
from dirl.objectives.base import AnyObjective, MaskedObjective
from dirl.prior.coverage import COARSE_UM
from dirl.store.dataset import TileStore


def check(recipe: PretrainRecipe, kind: type[AnyObjective], ranks: int) -> None:
    """Refuse a recipe that its objective cannot carry out.

    Raises
    ------
    ConfigError
        With the key to change.
    """
    name, parts = recipe.objective.name, recipe.optimiser.accumulate * ranks
    if recipe.views.local_count and not kind.multi_crop:
        remedy = "set views.local_count=0, or choose dino or dinov2"
        raise ConfigError(f"{name} takes no local views", where="views.local_count", remedy=remedy)
    if recipe.dense.negatives == "regions" and not kind.contrastive:
        raise ConfigError(f"{name} has no negatives", where="dense.negatives", remedy="set it to tiles")
    if recipe.encoder.drop_tokens and issubclass(kind, MaskedObjective):
        reason = f"{name} masks patch tokens, and dropped tokens cannot be masked"
        raise ConfigError(reason, where="encoder.drop_tokens", remedy="set it to 0")
    if recipe.batch % parts:
        reason = f"a batch of {recipe.batch} cannot be cut into {parts} equal parts"
        raise ConfigError(reason, where="batch", remedy=f"use a multiple of {parts}")
    if recipe.batch // parts < kind.smallest_batch:
        reason = f"{name} compares tiles with each other, and needs {kind.smallest_batch} at a time"
        raise ConfigError(
            f"{reason} on each device", where="batch", remedy="raise batch, or lower optimiser.accumulate"
        )


def check_local_views(views: ViewsConfig, patch_px: int) -> None:
    """Refuse local views that are not a whole number of patches.

    Raises
    ------
    ConfigError
        With a size that fits.
    """
    side = views.local_size_px
    if views.local_count and side % patch_px:
        reason = f"a local view of {side} px is no whole number of patches of {patch_px} px"
        fitting = side // patch_px * patch_px or patch_px
        raise ConfigError(reason, where="views.local_size_px", remedy=f"use {fitting}")


def warn_if_coarse(views: ViewsConfig, tiles: TileStore, patch_px: int) -> None:
    """Warn if a patch token is too large to separate nuclei from the rest, with the numbers."""
    token_um = patch_px * tiles.spec.mpp * _typical_scale(views, tiles.spec.size_px)
    if token_um > COARSE_UM:
        warnings.warn(
            f"tokens of {token_um:.1f} µm are coarse: above {COARSE_UM:g} µm nuclei and the rest weigh "
            "nearly the same tokens; use a smaller encoder.patch_px or a finer mpp",
            category=DirlWarning,
            stacklevel=4,
        )


def warn_of_start(encoder: EncoderConfig, report: InitReport) -> None:
    """Warn of starting weights that do not fit, and of a normalisation that they were not trained with."""
    left = {"missing": report.missing, "unexpected": report.unexpected, "resampled": report.resampled}
    counts = [f"{len(names)} {kind} (such as {names[0]})" for kind, names in left.items() if names]
    if counts:
        warnings.warn(
            f"of the weights of {encoder.init}: {', '.join(counts)}; init.json lists them",
            category=DirlWarning,
            stacklevel=4,
        )
    mine = (encoder.mean, encoder.std)
    if report.normalisation is not None and not np.allclose(report.normalisation, mine):
        mean, std = (list(part) for part in report.normalisation)
        warnings.warn(
            f"{encoder.init} was trained with another normalisation: set encoder.mean to {mean} "
            f"and encoder.std to {std}",
            category=DirlWarning,
            stacklevel=4,
        )


def _typical_scale(views: ViewsConfig, tile_px: int) -> float:
    """Tile pixels per view pixel of the mean crop."""
    low, high = views.crop_area
    return math.sqrt((low + high) / 2) * tile_px / views.size_px
