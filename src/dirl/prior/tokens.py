"""Region tokens: one vector for each region of a view."""

from dataclasses import dataclass

import torch
from timm.layers import Mlp
from torch import Tensor, nn

from dirl.encoders.base import EPSILON, log_coverage


@dataclass(frozen=True)
class RegionTokens:
    """One token for each region of ``b`` views.

    Attributes
    ----------
    tokens
        ``(b, r, d)``; without meaning if the region is absent.
    present
        Bool ``(b, r)``: the region covers enough of the view.
    """

    tokens: Tensor
    present: Tensor


def pool(patches: Tensor, coverage: Tensor) -> Tensor:
    """Return the coverage-weighted mean of the patch tokens.

    Parameters
    ----------
    patches
        ``(b, n, d)``.
    coverage
        ``(b, r, n)``.

    Returns
    -------
    Tensor
        ``(b, r, d)``; zero for a region that covers nothing.
    """
    weights = coverage / coverage.sum(dim=-1, keepdim=True).clamp(min=EPSILON)
    return weights.to(patches.dtype) @ patches


class Disentangle(nn.Module):
    """A cross-attention block with one learned query per region over the patch tokens of its region.

    Keys and values are computed once for all regions. log(coverage) is added to the logits: a token that a
    region covers by half has half the weight.

    Parameters
    ----------
    width, heads
        The encoder's; the width is a multiple of the heads.
    queries
        Learned queries: one for each region, or a single one for all regions.
    """

    def __init__(self, width: int, heads: int, queries: int) -> None:
        super().__init__()
        self.heads = heads
        self.queries = nn.Parameter(torch.empty(queries, width).normal_(std=0.02))
        self.norm = nn.LayerNorm(width)
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, 4 * width)

    def forward(self, patches: Tensor, coverage: Tensor) -> Tensor:
        """Attend from each region.

        Parameters
        ----------
        patches
            Normalised patch tokens, ``(b, n, d)``.
        coverage
            ``(b, r, n)``.

        Returns
        -------
        Tensor
            ``(b, r, d)``; finite, and without meaning for a region that covers nothing.
        """
        b, n, d = patches.shape
        k, v = self.kv(patches).view(b, n, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        asked = self.q(self.norm(self.queries)).expand(coverage.shape[1], d)
        q = asked.view(1, -1, self.heads, d // self.heads).transpose(1, 2)
        logits = (q @ k.transpose(-2, -1)) * (d // self.heads) ** -0.5
        rows = (logits.float() + log_coverage(coverage)[:, None]).softmax(dim=-1).to(v.dtype) @ v
        tokens = asked + self.proj(rows.transpose(1, 2).reshape(b, -1, d))
        out: Tensor = tokens + self.mlp(self.norm2(tokens))
        return out


def merge_regions(regions: RegionTokens) -> RegionTokens:
    """Flatten (b, r) into one region of b·r rows, so that every row is a negative of the others."""
    return RegionTokens(
        tokens=regions.tokens.flatten(0, 1)[:, None],
        present=regions.present.flatten()[:, None],
    )
