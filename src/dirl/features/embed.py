"""`dirl embed`: features of tiles, of a store or straight from slides, and their baselines."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from dirl.config import EmbedConfig, Pool
from dirl.core.boundary import inside
from dirl.core.card import Card, finish, new_card
from dirl.core.claim import claim, claim_again
from dirl.core.device import choose_device
from dirl.core.errors import ConfigError, DirlError, failed_counts, raise_failures
from dirl.core.owner import owning
from dirl.core.precision import BF16, FP32, ForwardPrecision, choose_precision
from dirl.core.progress import bar, say
from dirl.encoders.loading import LoadedEncoder, load_encoder, warn_resolution
from dirl.features.baselines import FEATURES, Baseline
from dirl.features.feature_files import (
    BASELINES_DIR,
    ROWS_DIR,
    Features,
    count_rows,
    read_features,
    read_rows,
    write_rows,
)
from dirl.features.pooling import MODEL, REGIONS, embed_pooled, patch_tokens
from dirl.features.sources import SlideFiles, SlideTiles, StoreTiles, TileSource
from dirl.features.stream import embed_slides
from dirl.features.trial import LEAST, agreement
from dirl.slides.tissue import warn_all_tissue
from dirl.store.index import SlideRecord

THREADS = 4


@owning
def embed(
    encoder: str,
    source: Path | SlideFiles,
    out: Path,
    config: EmbedConfig | None = None,
    *,
    baselines: bool | Path = True,
    device: str = "auto",
    batch: int = 64,
    workers: int = THREADS,
    overwrite: bool = False,
    quiet: bool = False,
) -> Features:
    """Embed tiles, and the baselines in the same pass.

    Threads read and decode tiles and compute the colour baselines while the encoder works.

    Parameters
    ----------
    encoder
        A spec of `load_encoder`.
    source
        A tile store, or slides.
    out
        Directory of the features; slides in it are not embedded again.
    config
        Which tiles of a store, how tokens become a feature, and the precision. The seed is that of the choice
        of tiles and of the untrained encoder.
    baselines
        Compute the baselines. The untrained encoder's forward pass takes as long as the encoder's own. Pass a
        finished feature directory of the same tiles and architecture to copy its baselines instead.
    device
        ``auto``, or a torch device.
    batch
        Tiles in one forward pass.
    workers
        Threads that read tiles.
    overwrite
        Replace features of another encoder, source or subsample.
    quiet
        Show no progress.

    Raises
    ------
    ConfigError
        If slides cannot be embedded so, or `baselines` are of other tiles or of another architecture.
    EncoderError
        If the encoder cannot be loaded, does not accept these tiles, or has no patch tokens to pool. Also if
        its features are not finite.
    StoreError
        If there is no such store, it is damaged or lacks the cells, or `out` has other content.
    SlideError
        If the only slide cannot be read or tiled.
    PartlyFailedError
        If some of several slides fail. The others are finished.
    """
    config = config or EmbedConfig()
    held = _open(source, config, quiet)
    where = choose_device(device)
    loaded = load_encoder(encoder, device=where)
    precision = _precision(config, loaded, held.size_px, quiet)
    warn_resolution(loaded, held.size_px, held.mpp)
    encoders: dict[str, LoadedEncoder] = {FEATURES: loaded}
    if baselines is True:
        encoders[Baseline.UNTRAINED] = loaded.randomised(config.seed)
    if config.pool != MODEL:  # a model without patch tokens is refused before anything is written
        patch_tokens(loaded, torch.zeros(1, 3, held.size_px, held.size_px, dtype=torch.uint8))
    forward = partial(embed_pooled, pool=config.pool, precision=precision)
    settings = {"encoder": encoder, "pool": config.pool, "precision": precision, "seed": config.seed}
    settings |= held.settings
    if not baselines:
        settings["baselines"] = False
    card = new_card("embed", settings, {"encoder": loaded.digest, **held.inputs})
    if isinstance(baselines, Path):
        _check_baselines(baselines, card, loaded)
    card = claim(out, card, overwrite=overwrite)
    files = {slide: inside(out / ROWS_DIR, f"{slide}.h5") for slide in held.slide_ids}
    missing = [slide for slide, file in files.items() if not _whole(file, bool(baselines))]
    if card.finished and not missing:
        return read_features(out)
    if card.finished:  # slides failed, or damaged files were removed: try these again
        card = claim_again(out, card)

    failures: dict[str, DirlError] = {}
    cut: list[SlideRecord] = []
    with bar("Embedding tiles", held.count, quiet=quiet) as advance:
        there = [file for slide, file in files.items() if slide not in missing]
        advance(sum(count_rows(file) for file in there))
        for slide_tiles, rows in embed_slides(
            held, missing, encoders, forward, failures, batch=batch, threads=workers, advance=advance
        ):
            cut.append(slide_tiles.record)
            attributes = _attributes(slide_tiles, loaded, config.pool, precision)
            _write(files[slide_tiles.record.slide_id], rows | slide_tiles.rows, attributes, baselines)
    if isinstance(source, SlideFiles):
        warn_all_tissue((one.slide_id, one.white, one.tissue_fraction) for one in cut)
    done = [count_rows(file) for file in files.values() if file.exists()]
    if done:
        counts = {"tiles": sum(done), "slides": len(done)} | failed_counts(failures)
        finish(out, card, {**counts, **held.counts})
    raise_failures(failures, len(done))
    return read_features(out)


def _precision(config: EmbedConfig, encoder: LoadedEncoder, size_px: int, quiet: bool) -> ForwardPrecision:
    """Choose the precision. On a CPU, bf16 is taken only if a trial gives the features of fp32."""
    chosen = choose_precision(config.precision, encoder.device)
    if config.precision != "auto" or chosen != BF16 or encoder.device.type != "cpu":
        return chosen
    cosine = agreement(encoder, size_px, config.pool)
    taken: ForwardPrecision = BF16 if cosine >= LEAST else FP32
    say(f"precision {taken}: features in bf16 have a cosine of {cosine:.4f} with fp32", quiet=quiet)
    return taken


def _whole(file: Path, baselines: bool) -> bool:
    """Whether a slide has its features and baselines."""
    return file.exists() and (not baselines or (file.parents[1] / BASELINES_DIR / file.name).exists())


def _write(
    file: Path, rows: dict[str, NDArray[Any]], attributes: dict[str, Any], baselines: bool | Path
) -> None:
    """Write a slide's baselines, then its features: a slide with features is complete."""
    if isinstance(baselines, Path):
        copied = read_rows(baselines / BASELINES_DIR / file.name, tuple(Baseline))
        write_rows(file.parents[1] / BASELINES_DIR / file.name, copied)
    elif baselines:
        own = {str(name): rows.pop(name) for name in Baseline}
        write_rows(file.parents[1] / BASELINES_DIR / file.name, own)
    write_rows(file, rows, attributes)


def _check_baselines(path: Path, card: Card, encoder: LoadedEncoder) -> None:
    """Refuse features whose baselines differ from those of the features to be made."""
    other = read_features(path).card
    made = load_encoder(other.config["encoder"])
    these, those = (
        ({**of.config, "encoder": None}, {**of.inputs, "encoder": None}, *_untrained(one))
        for of, one in ((card, encoder), (other, made))
    )
    if these != those:
        raise ConfigError("features of other tiles, or of an encoder of another architecture", where=path)


def _untrained(encoder: LoadedEncoder) -> tuple[Any, ...]:
    """All that the untrained encoder depends on, except the seed."""
    return encoder.architecture, dict(encoder.arguments), encoder.mean, encoder.std


def _open(source: Path | SlideFiles, config: EmbedConfig, quiet: bool) -> TileSource:
    if not isinstance(source, SlideFiles):
        cells = config.cells if config.pool == REGIONS else None
        return StoreTiles(
            source, cells=cells, select=config.select, tiles=config.tiles, seed=config.seed, quiet=quiet
        )
    if config.pool == REGIONS:
        raise ConfigError(
            "slides have no cells, but regions need them",
            where=f"pool {REGIONS}",
            remedy="make a store with `dirl tile`, then `dirl cells`, and give it with `dirl embed --store`",
        )
    for option, value in (("select", config.select), ("tiles", config.tiles)):
        if value is not None:
            raise ConfigError(
                "slides are always embedded completely",
                where=f"{option} {value}",
                remedy="choose tiles of a store: `dirl embed --store`",
            )
    return source


def _attributes(
    tiles: SlideTiles, encoder: LoadedEncoder, pool: Pool, precision: ForwardPrecision
) -> dict[str, Any]:
    """Attributes of ``coords``: TRIDENT's, and pooling, precision and resolutions in µm/px."""
    record, spec = tiles.record, tiles.spec
    return {
        "name": record.slide_id,
        "encoder": encoder.spec,
        "pool": pool,
        "precision": precision,
        "patch_size": spec.size_px,
        "patch_size_level0": round(spec.size_px * spec.mpp / record.mpp),
        "overlap": spec.size_px - spec.stride_px,
        "level0_magnification": 10 / record.mpp,
        "target_magnification": 10 / spec.mpp,
        "level0_mpp": record.mpp,
        "target_mpp": spec.mpp,
        "level0_width": record.size_px[0],
        "level0_height": record.size_px[1],
    }
