"""What region tokens encode: ``python studies/region_tokens.py STORE OUT.json RUN...`` writes it as JSON.

For each run's encoder and 300 tiles of the store, it computes the tokens of nuclei and of the rest of the
tissue. Each is the class query over one region, in the last block. Two questions are asked of these tokens:

- How often is the nearest neighbour (cosine, about the mean) the other region of the same tile? How often is
  it the same kind of region of any tile?
- How well does a linear probe separate nuclei from the rest, in held-out tiles? Tokens that encode only their
  tile have .5 here.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import dirl
from dirl.audit.tiles import draw_tiles
from dirl.core.files import write_text
from dirl.encoders.loading import LoadedEncoder, preprocess
from dirl.encoders.vit import block_with_regions
from dirl.features.pooling import region_shares


@torch.inference_mode()
def region_tokens(encoder: LoadedEncoder, images: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
    """Tokens of nuclei and of the rest, ``(b, 2, d)``, of the tiles that have both."""
    vit = encoder.model
    shares = region_shares(encoder, regions)[:, :2]
    tokens = vit.norm_pre(vit._pos_embed(vit.patch_embed(preprocess(encoder, images))))
    tokens = block_with_regions(vit.blocks[-1], vit.blocks[:-1](tokens), shares, vit.num_prefix_tokens)
    return vit.norm(tokens)[:, -2:][(shares.sum(dim=2) > 0).all(dim=1)]


def measured(tokens: np.ndarray) -> dict[str, float]:
    """How tokens ``(t, 2, d)`` of both kinds lie to one another."""
    tiles = len(tokens)
    rows = tokens.transpose(1, 0, 2).reshape(2 * tiles, -1)  # all nuclei, then all rests
    tile, kind = np.tile(np.arange(tiles), 2), np.repeat([0, 1], tiles)
    unit = rows - rows.mean(axis=0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    nearest = cosine.argmax(axis=1)
    guessed = np.empty_like(kind)
    for half in (0, 1):
        line = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        guessed[tile % 2 == half] = line.fit(rows[tile % 2 != half], kind[tile % 2 != half]).predict(
            rows[tile % 2 == half]
        )
    return {
        "tiles": tiles,
        "nearest_of_the_same_tile": float((tile[nearest] == tile).mean()),
        "nearest_of_the_same_kind": float((kind[nearest] == kind).mean()),
        "kind_told_by_a_line": float(balanced_accuracy_score(kind, guessed)),
    }


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("store", type=Path)
parser.add_argument("out", type=Path)
parser.add_argument("runs", type=Path, nargs="+")
given = parser.parse_args()
store = dirl.TileStore.open(given.store)
tiles = draw_tiles(store, store.cells("hematoxylin"), 300, 0)
found = {}
for run in given.runs:
    encoder = dirl.load_encoder(str(run))
    tokens = [region_tokens(encoder, batch.images, batch.regions) for batch in tiles]
    found[f"{run.parent.name}/{run.name}"] = measured(torch.cat(tokens).double().numpy())
    print(run, found[f"{run.parent.name}/{run.name}"])
write_text(given.out, json.dumps({"command": __doc__.splitlines()[0], "runs": found}, indent=1) + "\n")
