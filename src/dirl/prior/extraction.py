"""How an encoder's output becomes region tokens: one small class for each setting of ``dense.extract``."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from dirl.encoders.base import EPSILON, EncoderOutput, at_kept
from dirl.prior.tokens import Disentangle, RegionTokens, pool


class Extraction(ABC):
    """A way to make region tokens.

    Attributes
    ----------
    from_last_block
        Whether the encoder's last block makes the tokens, given the coverage.
    """

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

        Parameters
        ----------
        output
            The encoder's tokens.
        coverage
            ``(b, r, gh, gw)``, of the whole token grid.
        min_area
            Least share of the view (of its kept tokens, if some are dropped).
        block
            From `make_block`.
        """
        shares = at_kept(coverage.flatten(2), output.kept)
        present = shares.mean(dim=2) > max(min_area, EPSILON)
        return RegionTokens(tokens=self.tokens(output, shares, block), present=present)


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
