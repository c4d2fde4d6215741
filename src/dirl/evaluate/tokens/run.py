"""`dirl tokens`: what the frozen patch tokens of an encoder know of nuclei, beside colour baselines."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dirl.config import TokensConfig
from dirl.core.card import new_card
from dirl.core.device import choose_device
from dirl.core.errors import ConfigError
from dirl.core.intervals import UnitKind, Units, choose_units, estimate
from dirl.core.progress import bar
from dirl.core.randomness import hashes
from dirl.core.results import Result
from dirl.core.stage import Work, carry_out
from dirl.encoders.loading import LoadedEncoder, load_encoder, warn_resolution
from dirl.evaluate.common.records import Resampling
from dirl.evaluate.common.scores import Scored, score_classes
from dirl.evaluate.tokens.heads import NucleiScored, cross_validate, score_nuclei
from dirl.evaluate.tokens.read import RGB, RGB_AROUND, UNTRAINED, TokenTiles, read_tiles, token_features
from dirl.evaluate.tokens.summary import NucleiScores, TokenScores, TokensSummary, TypeScores
from dirl.features.baselines import FEATURES
from dirl.store.dataset import TileStore
from dirl.store.subsample import subsample_tiles

Ints = NDArray[np.int64]
Floats = NDArray[np.floating]


def tokens(
    encoder: str,
    store: Path,
    out: Path,
    config: TokensConfig | None = None,
    *,
    device: str = "auto",
    overwrite: bool = False,
    quiet: bool = False,
) -> Result[TokensSummary]:
    """Score a linear head on frozen patch tokens: nuclei or not, and the classes of nuclei.

    Tokens are those after the last norm. A token is a nucleus if nuclei cover at least ``config.share`` of
    it. The class of a nucleus is predicted from the mean of the tokens under it, weighted by area. Baselines
    are the colours of a token, those with its eight neighbours, and tokens of random weights.

    Parameters
    ----------
    encoder
        A spec of `load_encoder`.
    store
        A tile store with cells.
    out
        Directory of the result: ``summary.json``, ``card.json``.
    config
        Number of tiles, name of the cells, folds, seed.
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
        If there are fewer patients or slides than folds, or no token is a nucleus.
    StoreError
        If the store lacks tiles or cells, or `out` holds something else.
    """
    config = config or TokensConfig()
    opened = TileStore.open(store)
    cells = opened.cells(config.cells)
    loaded = load_encoder(encoder, device=choose_device(device))
    warn_resolution(loaded, opened.spec.size_px, opened.spec.mpp)
    numbers = subsample_tiles(opened, config.tiles, config.seed)
    groups, kind = _groups(opened, numbers)
    folds = _deal(groups, config.folds, config.seed)
    inputs = {"store": opened.digest, "cells": cells.card.digest, "encoder": loaded.digest}
    card = new_card("tokens", config.model_dump(mode="json") | {"encoder": encoder}, inputs)

    def compute(work: Work) -> TokensSummary:
        tiles = read_tiles(opened, cells, numbers, loaded)
        truth = tiles.share >= config.share
        if not 0 < truth.mean() < 1:
            reason = "all tokens are nuclei" if truth.all() else "no token is a nucleus"
            raise ConfigError(reason, where=f"share {config.share:g}", remedy="choose another --share")
        units = choose_units(groups, len(numbers), config.bootstrap, config.seed)
        if units.kind == "slides":
            units = replace(units, kind=kind)
        results = _score_all(tiles, truth, loaded, folds, groups, units, config, quiet)
        names, counts = np.unique(tiles.nucleus_class, return_counts=True)
        known = {tiles.classes[int(i)]: int(n) for i, n in zip(names, counts, strict=True)}
        return TokensSummary(
            encoder=encoder,
            encoder_digest=loaded.digest,
            store=str(store),
            cells=config.cells,
            tiles=len(numbers),
            tokens=truth.size,
            token_um=loaded.token_um(opened.spec.size_px, opened.spec.mpp),
            share=config.share,
            prevalence=float(truth.mean()),
            classes=known,
            folds=config.folds,
            groups=kind,
            interval=Resampling.of(units),
            results=results,
            notes=_notes(kind, known),
        )

    return carry_out(card, out, TokensSummary, compute, overwrite=overwrite)


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


def _score_all(
    tiles: TokenTiles,
    truth: NDArray[np.bool_],
    encoder: LoadedEncoder,
    folds: Ints,
    groups: NDArray[np.str_],
    units: Units,
    config: TokensConfig,
    quiet: bool,
) -> dict[str, TokenScores]:
    sets = {RGB: encoder, RGB_AROUND: encoder, UNTRAINED: encoder.randomised(config.seed), FEATURES: encoder}
    typed = len(np.unique(tiles.nucleus_class)) > 1
    found: dict[str, tuple[int, NucleiScored, Scored | None]] = {}
    with bar("Scoring tokens", len(sets) * config.folds * (1 + typed), quiet=quiet) as advance:
        for name, source in sets.items():
            values = token_features(tiles, source, name)
            fit = partial(_fit, folds=folds, groups=groups, seed=config.seed, advance=advance)
            width = values.shape[-1]
            where = np.arange(len(values)).repeat(values.shape[1])
            chance = fit(values.reshape(-1, width), truth.ravel().astype(np.int64), where)[:, 1]
            nuclei = score_nuclei(tiles, chance.reshape(truth.shape), truth, units, config.seed)
            types = None
            if typed:
                means = np.stack(
                    [s @ values[t] for s, t in zip(tiles.nuclei, tiles.nucleus_tile, strict=True)]
                )
                scores = fit(means, tiles.nucleus_class, tiles.nucleus_tile)
                of_kept = np.unique(units.of_tile[tiles.nucleus_tile], return_inverse=True)[1]
                drawn = Units(units.kind, of_kept.astype(np.int64), units.resamples, units.seed)
                types = score_classes(tiles.nucleus_class, scores, drawn)
            found[name] = (width, nuclei, types)
    baseline = found[RGB_AROUND]
    return {
        name: _record(*found[name], None if name in (RGB, RGB_AROUND) else baseline)
        for name in (FEATURES, UNTRAINED, RGB_AROUND, RGB)
    }


def _fit(
    values: Floats,
    classes: Ints,
    tile: Ints,
    *,
    folds: Ints,
    groups: NDArray[np.str_],
    seed: int,
    advance: Callable[[], None],
) -> NDArray[np.float64]:
    of_group = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    return cross_validate(values, classes, folds[tile], of_group[tile], seed, advance)


def _record(
    width: int,
    nuclei: NucleiScored,
    types: Scored | None,
    baseline: tuple[int, NucleiScored, Scored | None] | None,
) -> TokenScores:
    tokens, auroc = nuclei.classes.estimates(), nuclei.classes.metrics.index("macro_auroc")
    over = over_types = None
    if baseline is not None:
        other = baseline[1].classes
        gain = nuclei.classes.resampled[:, auroc] - other.resampled[:, auroc]
        over = estimate(nuclei.classes.values[auroc] - other.values[auroc], gain)
        if types is not None and baseline[2] is not None:
            over_types = types.minus(baseline[2])
    return TokenScores(
        width=width,
        nuclei=NucleiScores(
            auroc=tokens["macro_auroc"],
            average_precision=nuclei.average_precision,
            dice=nuclei.dice,
            over_rgb=over,
        ),
        types=None
        if types is None
        else TypeScores(
            balanced_accuracy=types.estimates()["balanced_accuracy"],
            macro_f1=types.estimates()["macro_f1"],
            over_rgb=over_types,
        ),
    )


def _notes(groups: str, classes: dict[str, int]) -> list[str]:
    notes = []
    if groups == "tiles":
        notes.append(
            "Patients and slides are unknown: folds keep only single tiles together, so scores are too high."
        )
    if not classes:
        notes.append("The nuclei have no classes, so types are not scored.")
    return notes
