"""Whether an attention map can be trusted: its stability, and how it ranks cells.

A map that says something about tissue moves with the tissue. A map that depends on the position in the tile,
or on the stain, does not.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from dirl.audit.passes import TileMeasures
from dirl.audit.summary import MapTrust
from dirl.audit.tiles import AuditTiles
from dirl.core.intervals import Estimate, Units, estimate, means
from dirl.encoders import measures as m
from dirl.encoders.attention import attention_rows
from dirl.encoders.loading import LoadedEncoder, preprocess
from dirl.evaluate.robust.corruptions import corrupt

Floats = NDArray[np.floating]

TILES = 6
"""Number of tiles that are changed and attended again."""
SEVERITY = 3
"""Of the stain shift; see `dirl.evaluate.robust`."""
NUCLEI = "nuclei"
CROPPED = 4
"""The window is shifted by a fourth of the tile."""

CHANGES = ("flip", "rotation", "stain", "crop")


def joint_map(rows: Tensor) -> Tensor:
    """Attention (gh, gw) of a tile from the rows (a, gh, gw) of the heads: their mean, which sums to 1."""
    _, p = m.renormalise(rows.flatten(1).mean(0))
    return p.view(rows.shape[1:])


def correlation(one: Tensor, other: Tensor) -> float:
    """Pearson correlation of two maps over their tokens; NaN if a map has the same value everywhere."""
    pair = torch.stack([one.flatten(), other.flatten()]).double()
    pair = pair - pair.mean(dim=1, keepdim=True)
    norms = pair.norm(dim=1)
    return float(pair[0] @ pair[1] / norms.prod()) if (norms > 1e-12).all() else float("nan")


def stability(encoder: LoadedEncoder, image: Tensor, map_: Tensor, seed: int) -> dict[str, float]:
    """Correlation of a tile's map (gh, gw) with its maps after each change, which are mapped back.

    A flip and a quarter turn move the tissue. A stain shift changes the colours. A crop shows the lower right
    three fourths alone. `image` (3, h, w) is uint8, with h = w.
    """
    attend = _attend(encoder)
    stained = corrupt(image.permute(1, 2, 0).numpy(), "stain", SEVERITY, np.random.default_rng(seed))
    changed = torch.from_numpy(np.ascontiguousarray(stained)).permute(2, 0, 1)
    shift = map_.shape[0] // CROPPED
    start = round(shift * image.shape[-1] / map_.shape[0]) if encoder.input_px else shift * encoder.patch_px
    kept = map_[shift:, shift:]
    cropped = interpolate(attend(image[:, start:, start:])[None, None], kept.shape, mode="bilinear")[0, 0]
    return {
        "flip": correlation(map_, attend(image.flip(-1)).flip(-1)),
        "rotation": correlation(map_, attend(image.rot90(1, (-2, -1))).rot90(-1)),
        "stain": correlation(map_, attend(changed)),
        "crop": correlation(kept, cropped),
    }


def _attend(encoder: LoadedEncoder) -> Callable[[Tensor], Tensor]:
    def attend(image: Tensor) -> Tensor:
        rows = attention_rows(encoder.model, preprocess(encoder, image[None]), encoder.embed)
        return joint_map(rows.patches[0, -1].cpu())

    return attend


def pixel_auroc(attention: Floats, on: Floats, off: Floats) -> float:
    """Probability that a pixel of the target has more attention than another one; ties count half.

    `attention` (n,) is that of each token. `on` and `off` (n,) are the shares of the token that the target
    and the rest of the tissue cover. NaN if one of them covers nothing.
    """
    _, rank = np.unique(attention, return_inverse=True)
    hits, misses = (np.bincount(rank, share.astype(np.float64)) for share in (on, off))
    pairs = hits.sum() * misses.sum()
    below = np.cumsum(misses) - misses
    return float((hits * (below + misses / 2)).sum() / pairs) if pairs > 0 else float("nan")


def trust(
    encoders: Sequence[LoadedEncoder],
    measured: Sequence[TileMeasures],
    controls: Sequence[TileMeasures],
    tiles: AuditTiles,
    units: Units,
    seed: int,
    advance: Callable[[], None] = lambda: None,
) -> list[MapTrust]:
    """Measure the trust in the joint map of each encoder's last block.

    Stability is over `TILES` tiles, evenly spaced among the audited ones. The AUROC and the correlation with
    the first encoder's map are over all tiles. Both use the attention in `measured`, and in `controls`, the
    pass of each encoder's untrained control. `advance` is called after each tile that is changed.
    """
    places = np.unique(np.linspace(0, len(tiles) - 1, min(TILES, len(tiles))).round().astype(int))
    images = tiles.read(tiles.indices[places]).images
    maps = [[joint_map(rows) for rows in one.attention] for one in measured]
    few = Units("tiles", np.arange(len(places)), units.resamples, units.seed)
    found = []
    for number, encoder in enumerate(encoders):
        changes: list[dict[str, float]] = []
        for image, place in zip(images, places, strict=True):
            changes.append(stability(encoder, image, maps[number][place], seed))
            advance()
        alike = [_between(one, first) for one, first in zip(maps[number], maps[0], strict=True)]
        found.append(
            MapTrust(
                name=encoder.name,
                tiles=len(places),
                stability={name: _mean(np.array([one[name] for one in changes]), few) for name in CHANGES},
                to_first=_mean(np.array(alike), units) if number else None,
                auroc=aurocs(measured[number], tiles.classes, units),
                auroc_untrained=aurocs(controls[number], tiles.classes, units),
            )
        )
    return found


def _between(one: Tensor, other: Tensor) -> float:
    """Correlation of two encoders' maps of a tile, at the coarser of their token grids."""
    grid = min(one.shape[0], other.shape[0]), min(one.shape[1], other.shape[1])
    return correlation(*(adaptive_avg_pool2d(each[None], grid)[0] for each in (one, other)))


def aurocs(measured: TileMeasures, classes: Sequence[str], units: Units) -> dict[str, Estimate]:
    """AUROC of the joint map for nuclei, and for each of the `classes` that they have.

    Pixels of the target are ranked against all other pixels of the tissue in the same tile, each with the
    attention of its token. Tiles of which either is less than ``min_area`` are left out.
    """
    maps = np.stack([joint_map(rows).flatten().numpy() for rows in measured.attention])
    found = {}
    for name, on in ((NUCLEI, measured.nuclei), *zip(classes, measured.classes, strict=True)):
        off = np.clip(measured.tissue - on, 0, None)
        enough = np.minimum(on.mean(1), off.mean(1)) >= measured.min_area
        values = [
            pixel_auroc(*tile) if counted else np.nan
            for *tile, counted in zip(maps, on, off, enough, strict=True)
        ]
        found[name] = _mean(np.array(values), units)
    return found


def _mean(values: NDArray[np.float64], units: Units) -> Estimate:
    value, resampled = means(values[:, None], units)
    return estimate(value[0], resampled[:, 0])
