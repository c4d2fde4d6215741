"""Whether an attention map can be trusted: its stability, and how it ranks cells.

A map that says something about tissue moves with the tissue. A map that depends on the position in the tile,
or on the stain, does not.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from dirl.audit.passes import TileMeasures
from dirl.audit.summary import MapTrust
from dirl.audit.tiles import AuditTiles
from dirl.core.intervals import Estimate, Units, estimate, means
from dirl.encoders import measures as m
from dirl.encoders.attention import attention_rows
from dirl.encoders.loading import LoadedEncoder, preprocess, resize
from dirl.evaluate.robust.corruptions import corrupt
from dirl.prior.coverage import pixel_share

TILES = 6
"""Number of tiles that are changed and attended again."""
SEVERITY = 3
"""Of the stain shift; see `dirl.evaluate.robust`."""
ON = 0.5
"""Share of a token that nuclei must cover to make it one of theirs."""
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


def stability(encoder: LoadedEncoder, image: Tensor, seed: int) -> dict[str, float]:
    """Correlation of a tile's map with its maps after each change, which are mapped back.

    A flip and a quarter turn move the tissue. A stain shift changes the colours. A crop shows the lower right
    three fourths alone. `image` (3, h, w) is uint8, with h = w.
    """
    attend = _attend(encoder)
    map_ = attend(image)
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


def auroc(attention: Tensor, on: Tensor) -> float:
    """How attention (gh, gw) ranks the tokens that are `on` above the others; NaN if all or none are."""
    chosen = on.flatten().numpy()
    inside = int(chosen.sum())
    outside = chosen.size - inside
    if not inside or not outside:
        return float("nan")
    ranks = rankdata(attention.flatten().numpy())[chosen].sum()
    return float((ranks - inside * (inside + 1) / 2) / (inside * outside))


def trust(
    encoders: Sequence[LoadedEncoder],
    measured: Sequence[TileMeasures],
    tiles: AuditTiles,
    units: Units,
    seed: int,
    advance: Callable[[], None] = lambda: None,
) -> list[MapTrust]:
    """Measure the trust in the joint map of each encoder's last block.

    Stability is over `TILES` tiles, evenly spaced among the audited ones. The AUROC and the correlation with
    the first encoder's map are over all tiles. Both use the attention in `measured`. `advance` is called
    after each tile that is changed.
    """
    places = np.unique(np.linspace(0, len(tiles) - 1, min(TILES, len(tiles))).round().astype(int))
    images = tiles.read(tiles.indices[places]).images
    maps = [[joint_map(rows) for rows in one.attention] for one in measured]
    few = Units("tiles", np.arange(len(places)), units.resamples, units.seed)
    found = []
    for number, encoder in enumerate(encoders):
        changes: list[dict[str, float]] = []
        for image in images:
            changes.append(stability(encoder, image, seed))
            advance()
        alike = [_between(one, first) for one, first in zip(maps[number], maps[0], strict=True)]
        found.append(
            MapTrust(
                name=encoder.name,
                tiles=len(places),
                stability={name: _mean(np.array([one[name] for one in changes]), few) for name in CHANGES},
                to_first=_mean(np.array(alike), units) if number else None,
                auroc={
                    area: _mean(values, units)
                    for area, values in _aurocs(encoder, maps[number], tiles).items()
                },
            )
        )
    return found


def _between(one: Tensor, other: Tensor) -> float:
    """Correlation of two encoders' maps of a tile, at the coarser of their token grids."""
    grid = min(one.shape[0], other.shape[0]), min(one.shape[1], other.shape[1])
    return correlation(*(adaptive_avg_pool2d(each[None], grid)[0] for each in (one, other)))


def _aurocs(
    encoder: LoadedEncoder, maps: Sequence[Tensor], tiles: AuditTiles
) -> dict[str, NDArray[np.float64]]:
    """AUROC of each tile for nuclei, and for each of their classes, (t,)."""
    classes = {slide: _classes(tiles, slide) for slide in np.unique(tiles.slide_ids).tolist()}
    names = sorted({name for known in classes.values() for name in known.values()})
    found = {name: np.full(len(tiles), np.nan) for name in ("nuclei", *names)}
    place = 0
    for batch in tiles:
        labels = resize(encoder, batch.labels)
        for label in labels:
            known = classes[str(tiles.slide_ids[place])]
            shares = {"nuclei": pixel_share(label > 0, encoder.patch_px)}
            for name in names:
                ids = torch.tensor([number for number, kind in known.items() if kind == name])
                shares[name] = pixel_share(torch.isin(label, ids), encoder.patch_px)
            for name, share in shares.items():
                found[name][place] = auroc(maps[place], share >= ON)
            place += 1
    return found


def _classes(tiles: AuditTiles, slide: str) -> Mapping[int, str]:
    table = tiles.cells.nuclei(slide, ["id", "class"])
    pairs = zip(table["id"].to_pylist(), table["class"].to_pylist(), strict=True)
    return {number: name for number, name in pairs if name is not None}


def _mean(values: NDArray[np.float64], units: Units) -> Estimate:
    value, resampled = means(values[:, None], units)
    return estimate(value[0], resampled[:, 0])
