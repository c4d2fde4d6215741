"""`dirl map`: the attention of an encoder over a whole slide."""

import warnings
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dirl.config import MapConfig
from dirl.core.card import new_card
from dirl.core.device import choose_device
from dirl.core.digests import digest
from dirl.core.errors import DirlWarning
from dirl.core.files import replacing, write_json
from dirl.core.progress import bar
from dirl.core.results import Result
from dirl.core.stage import Work, carry_out
from dirl.encoders.loading import LoadedEncoder, load_encoder, warn_resolution
from dirl.maps.attend import attend
from dirl.maps.blend import blend, halve
from dirl.maps.picture import draw_map
from dirl.maps.plan import MapPlan, plan_map
from dirl.maps.qupath import write_for_qupath
from dirl.maps.regions import RULE, to_geojson, top_regions
from dirl.maps.scaling import PATCH_MASS, UNIFORM, UNITS
from dirl.maps.summary import (
    Files,
    Level,
    MapChannel,
    MappedSlide,
    MapSummary,
    Origin,
    Raster,
    TilePlan,
    Tissue,
    TopRegions,
)
from dirl.maps.tiffs import write_bytes, write_floats
from dirl.slides.discovery import SlideInput, source_digest
from dirl.slides.reading import open_slide
from dirl.store.index import write_parquet

Floats = NDArray[np.float32]

FILES = Files(float="attention.ome.tif", regions="regions.geojson", figure="map.png", tiles="tiles.parquet")
BYTES = "attention.tif"
CLIPPED = 0.995  # quantile that is the brightest byte
# If 1 is an even share, the scale goes to at least 2, so that even attention has a medium colour.
EVEN, LEAST_HIGH = ("patches", "tissue"), 2.0


def map_slide(
    encoder: str | LoadedEncoder,
    slide: Path,
    out: Path,
    config: MapConfig | None = None,
    *,
    device: str = "auto",
    batch: int = 32,
    workers: int = 2,
    to: Literal["qupath"] | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> Result[MapSummary]:
    """Map the attention of an encoder over the tissue of a slide, token by token.

    Tiles overlap, and are blended with a smooth window. The same call continues interrupted work.

    The output holds the map as two kinds of TIFF, ``regions.geojson``, ``tiles.parquet``, ``map.png``,
    ``summary.json`` and ``card.json``.

    Parameters
    ----------
    encoder
        A name as `load_encoder` takes it, or a loaded encoder.
    slide
        A slide's file, or the folder of a DICOM series.
    out
        Directory of the map.
    config
        Tiles, block, heads and scales.
    device
        ``auto``, or a torch device. Not used for a loaded encoder.
    batch
        Tiles in one forward pass.
    workers
        Threads that read tiles.
    to
        ``qupath`` adds a script that shows the map and its regions in QuPath, and a page with the steps. A
        finished map gets them, too.
    overwrite
        Replace a map of another slide or encoder, or with other settings.
    quiet
        Show no progress.

    Raises
    ------
    SlideError
        If the slide cannot be read, has no resolution, is too coarse or too small, or holds no tissue.
    EncoderError
        If the encoder cannot be loaded, its attention cannot be captured, or it does not fit these tiles.
    ConfigError
        If there is no such block, or the weights between tiles are wrong or lack a tile.
    StoreError
        If `out` holds something else.
    """
    loaded = load_encoder(encoder, device=choose_device(device)) if isinstance(encoder, str) else encoder
    if loaded.random:
        warnings.warn(
            "the weights are random: the map shows nothing that was learned", DirlWarning, stacklevel=2
        )
    config = config or MapConfig()
    opened = open_slide(slide, config.mpp_override)
    try:
        plan = plan_map(loaded, opened, config)
        warn_resolution(loaded, plan.reader.grid.tile_px, config.mpp)
        inputs = {"slide": source_digest(SlideInput(opened.info.slide_id, slide)), "encoder": loaded.digest}
        settings = config.model_dump(mode="json")
        settings |= {"encoder": loaded.spec, "size_px": plan.reader.grid.tile_px}
        if any(plan.reader.grid.origin_px):
            settings["offset_px"] = list(plan.reader.grid.origin_px)
        if plan.weights is not None:
            inputs["between"] = digest(Path(config.between))
            settings["between"] = Path(config.between).name
        compute = partial(_compute, plan, inputs["slide"], batch, workers, quiet)
        made = carry_out(new_card("map", settings, inputs), out, MapSummary, compute, overwrite=overwrite)
    finally:
        opened.close()
    if to == "qupath":
        write_for_qupath(made.path, made.summary)
    return made


def _compute(
    plan: MapPlan, slide_digest: str, batch: int, workers: int, quiet: bool, work: Work
) -> MapSummary:
    reader, grid, tiles, names = plan.reader, plan.reader.grid, plan.reader.tiles, plan.channels
    work.parts.mkdir(exist_ok=True)
    with bar("Attention of tiles", len(tiles), quiet=quiet) as advance:
        values, mass = attend(
            work.parts,
            plan.encoder,
            reader,
            plan.tissue,
            plan.block,
            len(names),
            batch=batch,
            workers=workers,
            advance=advance,
        )
    weights = _weights(plan, mass)
    with bar("Writing the map", len(grid.levels) + len(names) + 1, quiet=quiet) as advance:
        levels = [blend(work.parts / "level0.npy", values, weights, tiles, grid, plan.tissue)]
        advance()
        for number, shape in enumerate(grid.levels[1:], 1):
            levels.append(halve(work.parts / f"level{number}.npy", levels[-1], shape))
            advance()
        channels = [_describe(levels[0][i], name, i, reader.config) for i, name in enumerate(names)]
        origin = _origin(plan, slide_digest)
        about = origin.to_share()
        write_floats(work.out / FILES.float, levels, grid, names, about)
        advance()
        for i, channel in enumerate(channels):
            described = about | {"channel": channel.name, "range": list(channel.range)}
            one = [level[i] for level in levels]
            write_bytes(work.out / channel.file, one, grid, channel.range[1], described)
            advance()
    threshold, regions = top_regions(levels[0][0])
    summary = MapSummary(
        **dict(origin),
        tiles=_tile_plan(plan),
        tissue=Tissue(tokens=int(plan.tissue.sum()), mapped=int(np.isfinite(levels[0][0]).sum())),
        channels=channels,
        files=FILES,
        regions=TopRegions(count=len(regions), threshold=threshold, rule=RULE),
    )
    write_json(work.out / FILES.regions, to_geojson(regions, grid, summary.unit, summary.slide.slide_id))
    write_parquet(work.out / FILES.tiles, _table(plan, mass, weights))
    with replacing(work.out / FILES.figure) as temporary:
        temporary.write_bytes(draw_map(plan, levels, regions, summary))
    return summary


def _weights(plan: MapPlan, mass: Floats) -> NDArray[np.floating]:
    """Weight of every tile and channel."""
    if plan.reader.config.between == PATCH_MASS:
        return mass
    weights = np.ones(len(mass)) if plan.weights is None else plan.weights
    return np.repeat(weights[:, None], mass.shape[1], axis=1)


def _describe(values: Floats, name: str, number: int, config: MapConfig) -> MapChannel:
    mapped = values[np.isfinite(values)]
    least = LEAST_HIGH if config.within in EVEN and config.between == UNIFORM else 0.0
    low, median, high, top = np.quantile(mapped, [0, 0.5, CLIPPED, 1]).tolist()
    return MapChannel(
        name=name,
        head=number - 1 if number else None,
        file=BYTES if number == 0 else f"attention-head-{number - 1:02d}.tif",
        range=(0.0, max(high, least) or 1.0),
        min=low,
        median=median,
        mean=float(mapped.mean(dtype=np.float64)),
        max=top,
    )


def _origin(plan: MapPlan, slide_digest: str) -> Origin:
    grid, config, info = plan.reader.grid, plan.reader.config, plan.reader.slide.info
    return Origin(
        slide=MappedSlide(
            slide_id=info.slide_id,
            path=str(info.path),
            digest=slide_digest,
            mpp=info.mpp,
            size_px=info.size_px,
        ),
        encoder=plan.facts,
        block=plan.block,
        heads=config.heads,
        within=config.within,
        between=config.between if plan.weights is None else Path(config.between).name,
        unit=_unit(config),
        map=Raster(
            size_px=grid.shape[::-1],
            mpp=grid.token_um,
            level0_px=grid.token_level0_px,
            offset_px=grid.origin_px,
            frame="qupath",
            levels=[
                Level(size_px=shape[::-1], mpp=grid.token_um * 2**number)
                for number, shape in enumerate(grid.levels)
            ],
        ),
    )


def _tile_plan(plan: MapPlan) -> TilePlan:
    grid, config = plan.reader.grid, plan.reader.config
    return TilePlan(
        count=len(plan.reader.tiles),
        size_px=grid.tile_px,
        mpp=config.mpp,
        level0_px=grid.tile_tokens * grid.token_level0_px,
        tokens=grid.tile_tokens,
        stride_tokens=grid.stride_tokens,
        overlap=1 - grid.stride_tokens / grid.tile_tokens,
        min_tissue=config.min_tissue,
    )


def _unit(config: MapConfig) -> str:
    scaled = UNITS[config.within]
    if config.between == UNIFORM:
        return scaled
    return f"{scaled} × {'patch mass' if config.between == PATCH_MASS else 'weight of the tile'}"


def _table(plan: MapPlan, mass: Floats, weights: NDArray[np.floating]) -> pa.Table:
    """One row for each tile, with the columns that ``--between`` reads. Mass and weight are of the mean."""
    tiles = plan.reader.tiles
    x, y = tiles.corners(plan.reader.grid).T
    return pa.table(
        {
            "x": x,
            "y": y,
            "row": tiles.rows,
            "column": tiles.columns,
            "tissue_fraction": tiles.tissue_fraction,
            "patch_mass": mass[:, 0],
            "weight": weights[:, 0].astype(np.float64),
        }
    )
