"""Region tokens: one vector for each region of a view, one small class for each ``dense.extract``."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from timm.layers import Mlp
from torch import Tensor, nn

from dirl.encoders.base import EPSILON, EncoderOutput, at_kept, log_coverage


@dataclass(frozen=True)
class RegionTokens:
    """One token for each region of ``b`` views.

    Attributes
    ----------
    tokens
        (b, r, d); without meaning if the region is absent.
    present
        Bool (b, r): the region covers enough of the view.
    """

    tokens: Tensor
    present: Tensor


def pool(patches: Tensor, coverage: Tensor) -> Tensor:
    """Return the mean of patch tokens ``(b, n, d)``, weighted by coverage ``(b, r, n)``: ``(b, r, d)``.

    It is zero for a region that covers nothing.
    """
    weights = coverage / coverage.sum(dim=-1, keepdim=True).clamp(min=EPSILON)
    return weights.to(patches.dtype) @ patches


class Disentangle(nn.Module):
    """A cross-attention block with one learned query per region over the patch tokens of its region.

    Keys and values are computed once for all regions. log(coverage) is added to the logits: a token that a
    region covers by half has half the weight. Width and heads are the encoder's; there is a query for each
    region, or a single one for all regions.
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
        """Attend from each region to normalised patch tokens ``(b, n, d)``, given coverage ``(b, r, n)``.

        The result ``(b, r, d)`` is finite, and without meaning for a region that covers nothing.
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
    return RegionTokens(regions.tokens.flatten(0, 1)[:, None], regions.present.flatten()[:, None])


class Extraction(ABC):
    """A way to make region tokens of an encoder's output."""

    # Whether the encoder's last block makes the tokens, given the coverage.
    from_last_block: bool = False

    def make_block(self, width: int, heads: int, queries: int) -> Disentangle | None:
        """Make the block that is trained for it, with one query for each region; None if there is none."""
        return None

    @abstractmethod
    def tokens(self, output: EncoderOutput, coverage: Tensor, block: nn.Module | None) -> Tensor:
        """Return region tokens ``(b, r, d)``; coverage ``(b, r, n)`` is only for kept tokens."""

    def regions(
        self, output: EncoderOutput, coverage: Tensor, min_area: float, block: nn.Module | None = None
    ) -> RegionTokens:
        """Make the region tokens of ``b`` views, and tell which regions are present.

        Coverage ``(b, r, gh, gw)`` is of the whole token grid. A present region covers more than `min_area`
        of the view (of its kept tokens, if some are dropped).
        """
        shares = at_kept(coverage.flatten(2), output.kept)
        present = shares.mean(dim=2) > max(min_area, EPSILON)
        return RegionTokens(self.tokens(output, shares, block), present)


class Pool(Extraction):
    """``pool``: the mean of the final patch tokens, weighted by coverage."""

    def tokens(self, output: EncoderOutput, coverage: Tensor, block: nn.Module | None) -> Tensor:
        """Average the patch tokens."""
        return pool(output.patches, coverage)


class ClsQuery(Extraction):
    """``cls``: the last block's own class query over the patch tokens of the region.

    It trains the attention that is audited, see `dirl.encoders.vit.block_with_regions`.
    """

    from_last_block = True

    def tokens(self, output: EncoderOutput, coverage: Tensor, block: nn.Module | None) -> Tensor:
        """Take the rows that the encoder made."""
        assert output.regions is not None
        return output.regions


class Disentangled(Extraction):
    """``disentangle``: a cross-attention block with a learned query for each region."""

    def make_block(self, width: int, heads: int, queries: int) -> Disentangle:
        """Make the block."""
        return Disentangle(width, heads, queries)

    def tokens(self, output: EncoderOutput, coverage: Tensor, block: nn.Module | None) -> Tensor:
        """Attend from the learned queries."""
        assert block is not None
        tokens: Tensor = block(output.patches, coverage)
        return tokens


class Twice(Extraction):
    """The control ``twice``: the class token, for a second head."""

    def tokens(self, output: EncoderOutput, coverage: Tensor, block: nn.Module | None) -> Tensor:
        """Take the class token as the only region."""
        return output.cls[:, None]
