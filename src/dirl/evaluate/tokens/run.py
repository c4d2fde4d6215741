"""`dirl tokens`: what the frozen patch tokens of an encoder know of nuclei or masks, beside baselines."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dirl.config import TokensConfig
from dirl.core.card import new_card
from dirl.core.device import choose_device
from dirl.core.errors import ConfigError
from dirl.core.intervals import UnitKind, choose_units
from dirl.core.progress import bar
from dirl.core.randomness import hashes
from dirl.core.results import Result
from dirl.core.stage import Work, carry_out
from dirl.encoders.loading import load_encoder, warn_resolution
from dirl.evaluate.common.records import Resampling
from dirl.evaluate.tokens.masks import Masks, open_masks
from dirl.evaluate.tokens.read import TokenTiles, read_tiles
from dirl.evaluate.tokens.score import Setting, score_sets, steps
from dirl.evaluate.tokens.summary import TokensSummary
from dirl.store.dataset import CellStore, TileStore
from dirl.store.subsample import subsample_tiles

Ints = NDArray[np.int64]


def tokens(
    encoder: str,
    store: Path,
    out: Path,
    config: TokensConfig | None = None,
    *,
    baselines: bool = True,
    device: str = "auto",
    overwrite: bool = False,
    quiet: bool = False,
) -> Result[TokensSummary]:
    """Score a linear head on frozen patch tokens: nuclei or not, and the classes of nuclei.

    Tokens are those after the last norm. A token is a nucleus if nuclei cover at least ``config.share`` of
    it. With ``config.masks``, each class of the masks is scored in the place of nuclei. The class of a
    nucleus is predicted from the mean of the tokens under it, weighted by area. Baselines are the colours of
    a token, those with its eight neighbours, and tokens of random weights.

    Parameters
    ----------
    encoder
        A spec of `load_encoder`.
    store
        A tile store, with cells unless masks are scored.
    out
        Directory of the result: ``summary.json``, ``card.json``.
    config
        Number of tiles, name of the cells or folder of the masks, folds, seed.
    baselines
        Score the baselines, too. They take three times as long as the encoder's tokens.
    device
        ``auto``, or a torch device.
    overwrite
        Replace a result of other settings.
    quiet
        Show no progress.

    Raises
    ------
    EncoderError
        If the encoder cannot be loaded, or has not one token for each patch.
    ConfigError
        If there are fewer patients or slides than folds, or no token is a nucleus or of a mask. If masks are
        missing or do not fit.
    StoreError
        If the store lacks tiles or cells, or `out` holds something else.
    """
    config = config or TokensConfig()
    opened = TileStore.open(store)
    loaded = load_encoder(encoder, device=choose_device(device))
    warn_resolution(loaded, opened.spec.size_px, opened.spec.mpp)
    numbers = subsample_tiles(opened, config.tiles, config.seed)
    groups, kind = _groups(opened, numbers)
    folds = _deal(groups, config.folds, config.seed)
    masks = None if config.masks is None else open_masks(config.masks, opened, numbers)
    under = masks or opened.cells(config.cells)
    inputs = {"store": opened.digest, "encoder": loaded.digest}
    inputs |= {"cells": under.card.digest} if isinstance(under, CellStore) else {"masks": under.digest}
    card = new_card(
        "tokens", config.model_dump(mode="json") | {"encoder": encoder, "baselines": baselines}, inputs
    )

    def compute(work: Work) -> TokensSummary:
        tiles, left_out = _scored(read_tiles(opened, numbers, loaded, under), config)
        units = choose_units(groups, len(numbers), config.bootstrap, config.seed)
        if units.kind == "slides":
            units = replace(units, kind=kind)
        of_group = np.unique(groups, return_inverse=True)[1].astype(np.int64)
        setting = Setting(folds, of_group, units, config)
        count = steps(tiles, config.folds, baselines=baselines)
        with bar("Scoring tokens", count, quiet=quiet) as advance:
            results = score_sets(tiles, loaded, setting, advance, baselines=baselines)
        return TokensSummary(
            encoder=encoder,
            encoder_digest=loaded.digest,
            store=str(store),
            cells=None if masks else config.cells,
            masks=config.masks,
            tiles=len(numbers),
            tokens=tiles.areas[0].share.size,
            token_um=loaded.token_um(opened.spec.size_px, opened.spec.mpp),
            share=config.share,
            prevalence={area.name: float((area.share >= config.share).mean()) for area in tiles.areas},
            classes=tiles.nuclei.counts,
            folds=config.folds,
            groups=kind,
            interval=Resampling.of(units),
            results=results,
            notes=[*left_out, *_notes(kind, tiles, masks)],
        )

    return carry_out(card, out, TokensSummary, compute, overwrite=overwrite)


def _scored(tiles: TokenTiles, config: TokensConfig) -> tuple[TokenTiles, list[str]]:
    """Leave out areas that cover no token or all of them by the share, and say which."""
    kept, reasons = [], []
    for area in tiles.areas:
        covered = float((area.share >= config.share).mean())
        if 0 < covered < 1:
            kept.append(area)
        else:
            reasons.append(
                f"{'every' if covered else 'no'} token has {config.share:g} or more of {area.name}"
            )
    if not kept:
        reason = ", ".join(reasons) or "the masks of these tiles are empty"
        raise ConfigError(reason, where="dirl tokens", remedy="choose another --share, or more --tiles")
    return replace(tiles, areas=tuple(kept)), [f"Not scored: {reason}." for reason in reasons]


def _groups(store: TileStore, numbers: Ints) -> tuple[NDArray[np.str_], UnitKind]:
    """What folds keep together: patients if all are known, else slides; each ready-made tile by itself."""
    patients, slides = store.patient_ids[numbers], store.slide_ids[numbers]
    if (patients != "").all():
        return patients, "patients"
    if all(store.slides[name].kind == "slide" for name in set(slides.tolist())):
        return slides, "slides"
    return store.tile_ids[numbers], "tiles"


def _deal(groups: NDArray[np.str_], folds: int, seed: int) -> Ints:
    """Deal groups to folds by a hash of their names: (t,)."""
    names, of_tile = np.unique(groups, return_inverse=True)
    if len(names) < folds:
        raise ConfigError(
            f"{len(names)} patients or slides for {folds} folds", where="folds", remedy="choose fewer --folds"
        )
    order = np.argsort(np.argsort(hashes(seed, names.tolist())))
    return np.asarray((order % folds)[of_tile], np.int64)


def _notes(groups: str, tiles: TokenTiles, masks: Masks | None) -> list[str]:
    notes = []
    if groups == "tiles":
        notes.append(
            "Patients and slides are unknown: folds keep only single tiles together, so scores are too high."
        )
    if masks is None and not tiles.nuclei.counts:
        notes.append("The nuclei have no classes, so types are not scored.")
    return notes
