"""All measures of attention rows as one table: the columns of `measures.parquet`."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from dirl.audit.findings import TITLES
from dirl.audit.full import FullAttention
from dirl.audit.tiles import REGIONS
from dirl.encoders import measures as m
from dirl.encoders.attention import AttentionRows

UNKNOWN = ("outliers", "attention_distance", "sink_ratio", "rollout_entropy")
COMPONENTS = {"components25": 0.25, "components50": 0.5, "components100": 1.0}
MEASURES = tuple(TITLES)
ATTENTION = tuple(f"attention_{region}" for region in REGIONS)
AREA = tuple(f"area_{region}" for region in REGIONS)
COLUMNS = (*MEASURES, *ATTENTION)
AVERAGED = -1
TISSUE_SHARE = 0.5  # of a token on tissue

SCHEMA = pa.schema(
    [
        pa.field("encoder", pa.dictionary(pa.int16(), pa.string())),
        pa.field("tile_id", pa.string()),
        pa.field("slide_id", pa.string()),
        pa.field("block", pa.int16()),
        pa.field("head", pa.int16()),
        *(pa.field(name, pa.float32()) for name in (*COLUMNS, *AREA)),
    ]
)


def measure(
    rows: AttentionRows,
    coverage: Tensor,
    weights: Sequence[Tensor],
    full: FullAttention | None = None,
    token_um: float = 1.0,
) -> Tensor:
    """Measure every tile, block and head, and the heads averaged first: (t, l, a + 1, columns), float32.

    The columns are `COLUMNS`. `coverage` (t, 3, n) is from `features.pooling.region_shares`, and the weights
    (m, n) of each tile from `tiles.nucleus_weights`. Without `full` the distance, sink ratio and rollout are
    NaN. `token_um` is the side of a token, for the distance.

    The last of the heads is their average. Only there head diversity is a number. Component coverage is NaN
    for a tile without nuclei. Outliers and rollout are those of the tile, in every row of the last block;
    they are NaN in the others.
    """
    heads = rows.patches.flatten(3)
    mass, p = m.renormalise(torch.cat([heads, heads.mean(2, keepdim=True)], dim=2))
    diversity = torch.full_like(mass, torch.nan)
    diversity[:, :, -1] = m.head_diversity(p[:, :, :-1])
    relative = [m.relative_attention(tile, w.to(p)) for tile, w in zip(p, weights, strict=True)]
    values = m.spread_measures(p) | {
        "entropy_tissue": m.entropy_within(p, coverage[:, :2].sum(1).to(p) >= TISSUE_SHARE),
        **{
            name: torch.stack([m.component_coverage(one, least) for one in relative])
            for name, least in COMPONENTS.items()
        },
        "head_diversity": diversity,
        "patch_mass": mass,
        "cls_mass": _with_average(rows.cls),
        "register_mass": _with_average(rows.registers),
        **{name: torch.full_like(mass, torch.nan) for name in UNKNOWN},
    }
    if rows.norms is not None:
        values["outliers"][:, -1] = m.outliers(rows.norms.flatten(1))[:, None]
    if full is not None:
        # A pool may have other heads than the block before it. Then only the average of heads is measured.
        alike = slice(None) if full.sinks.shape[2] == mass.shape[2] else slice(-1, None)
        values["attention_distance"][:, :, alike] = full.distance[:, :, alike] * token_um
        values["sink_ratio"][:, :, alike] = full.sinks[:, :, alike]
        values["rollout_entropy"][:, -1] = m.normalised_entropy(full.rollout.flatten(1))[:, None]
    regions = m.region_attention(p, coverage.to(p))
    return torch.cat([torch.stack([values[name] for name in MEASURES], dim=-1), regions], dim=-1)


def to_arrow(
    encoder: str,
    tile_ids: NDArray[np.str_],
    slide_ids: NDArray[np.str_],
    values: NDArray[np.float32],
    area: NDArray[np.float32],
) -> pa.Table:
    """Write measures in long form, one row per tile, block and head (-1: heads averaged first).

    The values (t, l, a + 1, columns) are from `measure`; `area` (t, 3) is the share of each tile that each
    region covers.
    """
    tiles, blocks, heads, _ = values.shape
    tile, block, head = (index.ravel() for index in np.indices((tiles, blocks, heads)))
    flat = values.reshape(-1, values.shape[-1])
    columns = {
        "encoder": pa.DictionaryArray.from_arrays(np.zeros(len(tile), np.int16), [encoder]),
        "tile_id": tile_ids[tile].tolist(),
        "slide_id": slide_ids[tile].tolist(),
        "block": block.astype(np.int16),
        "head": np.where(head == heads - 1, AVERAGED, head).astype(np.int16),
        **{name: flat[:, i] for i, name in enumerate(COLUMNS)},
        **{name: area[tile, i] for i, name in enumerate(AREA)},
    }
    return pa.table(columns, schema=SCHEMA)


def _with_average(mass: Tensor) -> Tensor:
    return torch.cat([mass, mass.mean(2, keepdim=True)], dim=2)
