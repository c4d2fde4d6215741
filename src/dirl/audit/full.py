"""Measures of whole attention matrices: distance, sinks and rollout, a few rows at a time."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dirl.encoders.attention import CLS, POOLING, Call, anatomy, catch

TILES = 4
"""Number of tiles whose queries and keys are kept at a time."""


@dataclass(frozen=True)
class FullAttention:
    """Measures of whole attention matrices A; the last of the heads is their average.

    ``distance`` (t, l, a + 1), in tokens, is the mean over the patch queries i of ``Σ_j A_ij ‖x_i - x_j‖``, A
    renormalised over the patch keys. ``sinks`` (t, l, a + 1) compares the attention that the patch keys draw
    from all patch queries, A renormalised alike: the largest over the mean. It is 1 if no token draws more
    than any other.

    ``rollout`` (t, gh, gw) is the query's row of the product over blocks of ``½A + ½I`` (Abnar and Zuidema,
    arXiv 2005.00928). Heads are averaged first, and the row is renormalised over the patch tokens.
    """

    distance: Tensor
    sinks: Tensor
    rollout: Tensor


def full_attention(model: nn.Module, images: Tensor) -> FullAttention:
    """Measure the whole attention matrices of a timm vision transformer, on images as for `attention_rows`.

    It needs memory for the queries and keys of four tiles, and for some rows of one block's matrix.
    """
    parts = [_few(model, few) for few in torch.split(images, TILES)]
    return FullAttention(
        distance=torch.cat([one.distance for one in parts]),
        sinks=torch.cat([one.sinks for one in parts]),
        rollout=torch.cat([one.rollout for one in parts]),
    )


def uniform_full(tiles: int, grid: tuple[int, int]) -> FullAttention:
    """Measures of attention that is the same on every patch token, in the shape of one block and head."""
    apart = distances(grid).mean().expand(tiles, 1, 2)
    rollout = torch.full((tiles, *grid), 1 / (grid[0] * grid[1]))
    return FullAttention(distance=apart, sinks=torch.ones(tiles, 1, 2), rollout=rollout)


def distances(grid: tuple[int, int]) -> Tensor:
    """Distance between the centres of any two tokens of a grid, in tokens, shape (n, n)."""
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    places = torch.stack([rows.flatten(), columns.flatten()], dim=1).float()
    return torch.cdist(places, places)


def measure_matrix(
    chunks: Iterable[tuple[int, Tensor]], apart: Tensor, prefix: int, row: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Distance and sinks (t, a + 1) of one block, and a row (t, n) carried through it.

    `chunks` hold the first query and rows (t, a, m, n) of the attention matrix; all rows come in order.
    `apart` (n - prefix, n - prefix) is from `distances`. `row` is the rollout up to the next block. It
    becomes ``½ row + ½ row A``, A averaged over heads.
    """
    patches = len(apart)
    carried, total, columns = row / 2, torch.zeros(()), torch.zeros(())
    for first, rows in chunks:
        averaged = rows.mean(1, keepdim=True)
        weights = row[:, None, first : first + rows.shape[2]]
        carried = carried + (weights @ averaged[:, 0])[:, 0] / 2
        inside = max(0, prefix - first)
        among = torch.cat([rows, averaged], dim=1)[:, :, inside:, prefix:]
        among = among / among.sum(-1, keepdim=True)
        start = first + inside - prefix
        total = total + torch.einsum("tamn,mn->ta", among, apart[start : start + among.shape[2]])
        columns = columns + among.sum(2)
    return total / patches, columns.amax(-1) / columns.mean(-1), carried


def _few(model: nn.Module, images: Tensor) -> FullAttention:
    body = anatomy(model)
    caught = catch(model, images, _itself)
    tiles, gh, gw = caught.norms.shape
    last = caught.blocks[-1]
    row = torch.zeros(tiles, last.key.shape[-2], device=images.device)
    if body.query == CLS:
        row[:, 0] = 1
    elif caught.pool is not None:
        pooled = caught.pool.rows(0, 1).mean(1)[:, 0]
        row[:, -pooled.shape[-1] :] = pooled
    else:
        row[:, body.prefix :] = 1 / (gh * gw)
    apart = distances((gh, gw)).to(images.device)
    found = []
    for call in reversed(caught.blocks):
        distance, sinks, row = measure_matrix(call.chunks(), apart, body.prefix, row)
        found.append((distance, sinks))
    patches = row[:, body.prefix :]
    if body.query == POOLING:  # only the block that the pooling query reads is audited
        found = found[:1]
    return FullAttention(
        distance=torch.stack([distance for distance, _ in reversed(found)], dim=1),
        sinks=torch.stack([sinks for _, sinks in reversed(found)], dim=1),
        rollout=(patches / patches.sum(-1, keepdim=True)).view(tiles, gh, gw),
    )


def _itself(call: Call) -> Call:
    return call
