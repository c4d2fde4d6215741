"""What a recipe asks for against what its objective and its tiles can give."""

import math
import warnings

import numpy as np

from dirl.config import PretrainRecipe
from dirl.core.errors import ConfigError, DirlWarning
from dirl.encoders.pretrained import InitReport
from dirl.encoders.vit import ViT
from dirl.objectives.base import Objective
from dirl.store.dataset import TileStore

COARSE_UM = 8.0


def check(recipe: PretrainRecipe, kind: type[Objective], ranks: int) -> None:
    """Refuse what an objective cannot do, before anything is made.

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
    if recipe.encoder.drop_tokens and kind.masked:
        reason = f"{name} masks patch tokens, and would lose them"
        raise ConfigError(reason, where="encoder.drop_tokens", remedy="set it to 0")
    if recipe.batch % parts:
        reason = f"a batch of {recipe.batch} cannot be cut into {parts} equal parts"
        raise ConfigError(reason, where="batch", remedy=f"use a multiple of {parts}")
    if recipe.batch // parts < kind.smallest_batch:
        reason = f"{name} compares tiles with each other, and needs {kind.smallest_batch} at a time"
        raise ConfigError(
            f"{reason} on each device", where="batch", remedy="raise batch, or lower optimiser.accumulate"
        )


def check_local_views(recipe: PretrainRecipe, patch_px: int) -> None:
    """Refuse local views that are no whole number of patches.

    Raises
    ------
    ConfigError
        With a size that fits.
    """
    side = recipe.views.local_size_px
    if recipe.views.local_count and side % patch_px:
        reason = f"a local view of {side} px is no whole number of patches of {patch_px} px"
        fitting = side // patch_px * patch_px or patch_px
        raise ConfigError(reason, where="views.local_size_px", remedy=f"use {fitting}")


def warn_if_coarse(recipe: PretrainRecipe, tiles: TileStore, encoder: ViT) -> None:
    """Warn where a patch token is too large to tell nuclei from the rest, with the numbers."""
    token_um = encoder.patch_px * tiles.spec.mpp * _typical_scale(recipe, tiles.spec.size_px)
    if token_um > COARSE_UM:
        warnings.warn(
            f"tokens of {token_um:.1f} µm are coarse: above {COARSE_UM:g} µm nuclei and the rest weigh "
            "nearly the same tokens; use a smaller encoder.patch_px or a finer mpp",
            category=DirlWarning,
            stacklevel=3,
        )


def warn_of_start(recipe: PretrainRecipe, report: InitReport) -> None:
    """Say which starting weights did not find a place, and whether images are normalised as they expect."""
    left = {"missing": report.missing, "unexpected": report.unexpected, "resampled": report.resampled}
    told = [f"{len(names)} {kind} (such as {names[0]})" for kind, names in left.items() if names]
    if told:
        warnings.warn(
            f"of the weights of {recipe.encoder.init}: {', '.join(told)}; init.json lists them",
            category=DirlWarning,
            stacklevel=3,
        )
    mine = (recipe.encoder.mean, recipe.encoder.std)
    if report.normalisation is not None and not np.allclose(report.normalisation, mine):
        mean, std = (list(part) for part in report.normalisation)
        warnings.warn(
            f"{recipe.encoder.init} was trained on images normalised otherwise: set encoder.mean to {mean} "
            f"and encoder.std to {std}",
            category=DirlWarning,
            stacklevel=3,
        )


def _typical_scale(recipe: PretrainRecipe, tile_px: int) -> float:
    """Tile pixels per view pixel of the mean crop."""
    low, high = recipe.views.crop_area
    return math.sqrt((low + high) / 2) * tile_px / recipe.views.size_px
