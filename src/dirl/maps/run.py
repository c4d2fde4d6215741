"""`dirl map`: the attention of an encoder over a whole slide."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dirl.config import MapConfig
from dirl.core.checked import read_summary
from dirl.core.device import choose_device
from dirl.core.files import remove, replacing, write_json
from dirl.core.owner import owning
from dirl.core.progress import bar
from dirl.core.provenance import claim, digest, finish, new_card
from dirl.encoders.loading import LoadedEncoder, load_encoder
from dirl.maps import picture
from dirl.maps.attend import attend
from dirl.maps.blend import blend, halve
from dirl.maps.plan import Plan, make_plan
from dirl.maps.regions import RULE, Region, to_geojson, top_regions
from dirl.maps.scaling import PATCH_MASS, UNIFORM, UNITS
from dirl.maps.tiffs import write_bytes, write_floats
from dirl.report.style import encode
from dirl.slides.discovery import SlideInput, source_digest
from dirl.slides.reading import open_slide
from dirl.store.index import write_table

Floats = NDArray[np.float32]

FLOATS, BYTES = "attention.ome.tif", "attention.tif"
FILES = {"float": FLOATS, "regions": "regions.geojson", "figure": "map.png", "tiles": "tiles.parquet"}
UNFINISHED = "unfinished"
FIGURE_PX = 1500  # longer side of the map's level that is drawn
CLIPPED = 0.995  # quantile that is the brightest byte
# Where 1 is an even share, the scale goes to 2 at least: even attention is drawn as medium, not as much.
EVEN, LEAST_HIGH = ("patches", "tissue"), 2.0


@dataclass(frozen=True)
class MapResult:
    """A finished map.

    Attributes
    ----------
    path
        Its directory: the two kinds of TIFF, ``regions.geojson``, ``tiles.parquet``, ``map.png``,
        ``summary.json``, ``card.json``.
    summary
        What ``summary.json`` holds.
    """

    path: Path
    summary: dict[str, Any]


@owning
def map_slide(
    encoder: str | LoadedEncoder,
    slide: Path,
    out: Path,
    config: MapConfig | None = None,
    *,
    device: str = "auto",
    batch: int = 32,
    workers: int = 2,
    overwrite: bool = False,
    quiet: bool = False,
) -> MapResult:
    """Map the attention of an encoder over the tissue of a slide, token by token.

    Tiles overlap, and are blended with a smooth window; interrupted work goes on where it ended.

    Parameters
    ----------
    encoder
        As `load_encoder` takes it, or loaded.
    slide
        A slide's file, or the folder of a DICOM series.
    out
        Directory of the map.
    config
        Tiles, block, heads and scales.
    device
        ``auto``, or a torch device, for an encoder that is named.
    batch
        Tiles in one forward pass.
    workers
        Threads that read tiles.
    overwrite
        Replace a map made otherwise.
    quiet
        Show no progress.

    Raises
    ------
    SlideError
        If the slide cannot be read, has no resolution, is too coarse or too small, or holds no tissue.
    EncoderError
        If the encoder cannot be loaded, its attention cannot be had, or does not fit these tiles.
    ConfigError
        If there is no such block, or the weights between tiles are wrong or miss a tile.
    StoreError
        If `out` holds something else.
    """
    loaded = load_encoder(encoder, device=choose_device(device)) if isinstance(encoder, str) else encoder
    config = config or MapConfig()
    opened = open_slide(slide, config.mpp_override)
    try:
        plan = make_plan(loaded, opened, config)
        inputs = {"slide": source_digest(SlideInput(opened.info.slide_id, slide)), "encoder": loaded.digest}
        settings = config.model_dump(mode="json")
        settings |= {"encoder": loaded.spec, "size_px": plan.reader.grid.tile_px}
        if any(plan.reader.grid.origin_px):
            settings["offset_px"] = list(plan.reader.grid.origin_px)
        if plan.given is not None:
            inputs["between"] = digest(Path(config.between))
            settings["between"] = Path(config.between).name
        card = claim(out, new_card("map", settings, inputs), overwrite=overwrite)
        if card.finished:
            return MapResult(out, read_summary(out))
        summary = _make(plan, out, inputs, batch, workers, quiet)
    finally:
        opened.close()
    finish(out, card, {"tiles": len(plan.reader.tiles), "channels": len(plan.names)})
    remove(out / UNFINISHED)
    return MapResult(out, summary)


def _make(
    plan: Plan, out: Path, inputs: dict[str, str], batch: int, workers: int, quiet: bool
) -> dict[str, Any]:
    reader, grid, tiles, names = plan.reader, plan.reader.grid, plan.reader.tiles, plan.names
    info = reader.slide.info
    scratch = out / UNFINISHED
    scratch.mkdir(exist_ok=True)
    with bar("Attention of tiles", len(tiles), quiet=quiet) as advance:
        values, mass = attend(
            scratch,
            plan.encoder,
            reader,
            plan.tissue,
            plan.found.block,
            len(names),
            batch=batch,
            workers=workers,
            advance=advance,
        )
    weights = _weights(plan, mass)
    with bar("Writing the map", len(grid.levels) + len(names) + 1, quiet=quiet) as advance:
        levels = [blend(scratch / "level0.npy", values, weights, tiles, grid, plan.tissue)]
        advance()
        for number, shape in enumerate(grid.levels[1:], 1):
            levels.append(halve(scratch / f"level{number}.npy", levels[-1], shape))
            advance()
        channels = [_describe(levels[0][i], name, i, reader.config) for i, name in enumerate(names)]
        summary = _summary(plan, inputs, channels, int(np.isfinite(levels[0][0]).sum()))
        about = _about(summary)
        write_floats(out / FLOATS, levels, grid, names, about)
        advance()
        for i, channel in enumerate(channels):
            described = about | {"channel": channel["name"], "range": channel["range"]}
            write_bytes(
                out / channel["file"], [level[i] for level in levels], grid, channel["range"][1], described
            )
            advance()
    threshold, regions = top_regions(levels[0][0])
    summary["regions"] = {"count": len(regions), "threshold": threshold, "rule": RULE}
    write_json(out / FILES["regions"], to_geojson(regions, grid, summary["unit"], info.slide_id))
    write_table(out / FILES["tiles"], _table(plan, mass, weights))
    _draw(plan, out, levels, regions, summary)
    write_json(out / "summary.json", summary)
    return summary


def _about(summary: dict[str, Any]) -> dict[str, Any]:
    """What the TIFFs say of themselves: no path of this machine, since they are passed on."""
    kept = ("slide", "encoder", "block", "within", "between", "unit", "map")
    about = {key: summary[key] for key in kept}
    for section, path in (("slide", "path"), ("encoder", "spec")):
        about[section] = {key: value for key, value in summary[section].items() if key != path}
    return about


def _weights(plan: Plan, mass: Floats) -> NDArray[np.floating]:
    """Weight of every tile and channel."""
    if plan.reader.config.between == PATCH_MASS:
        return mass
    given = np.ones(len(mass)) if plan.given is None else plan.given
    return np.repeat(given[:, None], mass.shape[1], axis=1)


def _describe(values: Floats, name: str, number: int, config: MapConfig) -> dict[str, Any]:
    mapped = values[np.isfinite(values)]
    least = LEAST_HIGH if config.within in EVEN and config.between == UNIFORM else 0.0
    low, median, high, top = np.quantile(mapped, [0, 0.5, CLIPPED, 1]).tolist()
    return {
        "name": name,
        "head": number - 1 if number else None,
        "file": BYTES if number == 0 else f"attention-head-{number - 1:02d}.tif",
        "range": [0.0, max(high, least) or 1.0],
        "min": low,
        "median": median,
        "mean": float(mapped.mean(dtype=np.float64)),
        "max": top,
    }


def _summary(
    plan: Plan, inputs: dict[str, str], channels: list[dict[str, Any]], mapped: int
) -> dict[str, Any]:
    reader, grid, encoder = plan.reader, plan.reader.grid, plan.encoder
    info, config = reader.slide.info, reader.config
    return {
        "slide": {
            "slide_id": info.slide_id,
            "path": str(info.path),
            "digest": inputs["slide"],
            "mpp": info.mpp,
            "size_px": list(info.size_px),
        },
        "encoder": {
            "name": encoder.name,
            "spec": encoder.spec,
            "digest": encoder.digest,
            "blocks": plan.found.blocks,
            "heads": plan.found.heads,
            "query": plan.found.query,
        },
        "block": plan.found.block,
        "heads": config.heads,
        "within": config.within,
        "between": config.between if plan.given is None else Path(config.between).name,
        "unit": _unit(config),
        "map": {
            "size_px": list(grid.shape[::-1]),
            "mpp": grid.token_um,
            "level0_px": grid.token_level0_px,
            "offset_px": list(grid.origin_px),
            "frame": "qupath",
            "levels": [
                {"size_px": list(shape[::-1]), "mpp": grid.token_um * 2**number}
                for number, shape in enumerate(grid.levels)
            ],
        },
        "tiles": {
            "count": len(reader.tiles),
            "size_px": grid.tile_px,
            "mpp": config.mpp,
            "level0_px": grid.tile_tokens * grid.token_level0_px,
            "tokens": grid.tile_tokens,
            "stride_tokens": grid.stride_tokens,
            "overlap": 1 - grid.stride_tokens / grid.tile_tokens,
            "min_tissue": config.min_tissue,
        },
        "tissue": {"tokens": int(plan.tissue.sum()), "mapped": mapped},
        "channels": channels,
        "files": FILES,
    }


def _unit(config: MapConfig) -> str:
    scaled = UNITS[config.within]
    if config.between == UNIFORM:
        return scaled
    return f"{scaled} × {'patch mass' if config.between == PATCH_MASS else 'weight of the tile'}"


def _table(plan: Plan, mass: Floats, weights: NDArray[np.floating]) -> pa.Table:
    """One row a tile, in the columns that ``--between`` reads; mass and weight are those of the mean."""
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


def _draw(
    plan: Plan, out: Path, levels: Sequence[Floats], regions: Sequence[Region], summary: dict[str, Any]
) -> None:
    reader, grid = plan.reader, plan.reader.grid
    shown = next((i for i, level in enumerate(levels) if max(level.shape) <= FIGURE_PX), len(levels) - 1)
    title = [
        f"{summary['slide']['slide_id']}, {summary['encoder']['name']}",
        f"{plan.found.query} query, block {summary['block']} of 0 to {plan.found.blocks - 1}, mean of heads; "
        f"within tiles: {summary['within']}; between tiles: {summary['between']}",
    ]
    figure = picture.map_figure(
        picture.thumbnail(reader.slide),
        reader.slide.info.size_px,
        reader.slide.info.bounds,
        levels[shown][0],
        grid.token_level0_px * 2**shown,
        regions,
        grid.token_level0_px,
        summary["channels"][0]["range"][1],
        title,
        summary["unit"],
    )
    with replacing(out / FILES["figure"]) as temporary:
        temporary.write_bytes(encode(figure, "png", picture.DPI))
