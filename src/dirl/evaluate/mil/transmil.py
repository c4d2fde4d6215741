"""TransMIL: tiles attend to each other, and a class token to all of them."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dirl.evaluate.mil.slide_model import Pooled, SlideModel

HEADS = 4
KERNEL = 33
PINV_STEPS = 6


class TransMIL(SlideModel):
    """Transformer over the tiles of a bag (Shao et al. 2021, arXiv 2106.00908).

    First comes attention among all tokens by Nyström's method. Its time and memory grow with the number of
    tiles and not with its square. Then comes a convolution over the tiles laid out as a square. Last comes
    the class token's attention to all tokens, by which the bag is classified.

    Differs from the paper: only the class token of the last layer is used, so only its row is computed, and
    exactly. That row, without the class token's share, is the reported attention. The width of the tokens is
    a multiple of the 4 heads; there are half as many landmarks.
    """

    def __init__(self, inputs: int, outputs: int, width: int = 128) -> None:
        super().__init__(inputs, outputs, width)
        self.embed = nn.Sequential(nn.Linear(inputs, width), nn.ReLU())
        self.class_token = nn.Parameter(0.02 * torch.randn(1, width))
        self.mix = NystromAttention(width, landmarks=max(1, width // 2))
        self.place = Places(width)
        self.attend = ClassAttention(width)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, outputs)

    def forward(self, tiles: Tensor, label: int | None = None) -> Pooled:
        """Score one bag."""
        count = len(tiles)
        hidden = self.embed(tiles)
        side = _side(count)
        # The square is filled with the first tiles once more.
        again = side * side - count
        tokens = torch.cat([self.class_token, hidden, hidden[:again]])
        tokens = self.place(tokens + self.mix(tokens), side)
        token, row = self.attend(tokens)
        attention = torch.cat([row[1 : count + 1][:again] + row[count + 1 :], row[1 + again : count + 1]])
        streams = self.head(self.norm(tokens[0] + token))[None]
        return Pooled(streams, attention / attention.sum(), tiles.new_zeros(()))


class NystromAttention(nn.Module):
    """Self-attention through landmarks, the means of equal stretches of the tokens.

    ``softmax(Q K̃ᵀ) softmax(Q̃ K̃ᵀ)⁺ softmax(Q̃ Kᵀ) V``, and V smoothed along the tokens beside it (Xiong et al.
    2021, arXiv 2102.03902). Where there are no more tokens than landmarks, plain attention.
    """

    def __init__(self, width: int, landmarks: int) -> None:
        super().__init__()
        self.landmarks = landmarks
        self.norm = nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        self.smooth = nn.Conv1d(HEADS, HEADS, KERNEL, padding=KERNEL // 2, groups=HEADS, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens of shape (t, width) to what is to be added to them."""
        query, key, value = (_heads(part) for part in self.qkv(self.norm(tokens)).chunk(3, dim=-1))
        # The same filter for all channels of a head.
        smoothed = self.smooth(value.permute(2, 0, 1)).permute(1, 2, 0)
        mixed: Tensor = self.out(_joined(self._attend(query, key, value) + smoothed))
        return mixed

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if query.shape[1] <= self.landmarks:
            return F.scaled_dot_product_attention(query, key, value)
        few_queries, few_keys = (
            F.adaptive_avg_pool1d(part.transpose(1, 2), self.landmarks).transpose(1, 2)
            for part in (query, key)
        )
        scale = query.shape[-1] ** -0.5
        to_few = (query @ few_keys.transpose(1, 2) * scale).softmax(dim=-1)
        among = (few_queries @ few_keys.transpose(1, 2) * scale).softmax(dim=-1)
        gathered = F.scaled_dot_product_attention(few_queries, key, value)
        mixed: Tensor = to_few @ (pseudo_inverse(among) @ gathered)
        return mixed


class Places(nn.Module):
    """Convolutions of three sizes over tiles laid out as a square; they encode its position (PPEG)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.sizes = nn.ModuleList(
            nn.Conv2d(width, width, size, padding=size // 2, groups=width) for size in (7, 5, 3)
        )

    def forward(self, tokens: Tensor, side: int) -> Tensor:
        """Tokens of shape (1 + side², width), of which the first is the class token, which stays as it is."""
        square = tokens[1:].T.reshape(1, -1, side, side)
        placed = square + torch.stack([size(square) for size in self.sizes]).sum(dim=0)
        return torch.cat([tokens[:1], placed.flatten(2)[0].T])


class ClassAttention(nn.Module):
    """The first token's attention to all tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.query, self.key_value = (
            nn.Linear(width, width, bias=False),
            nn.Linear(width, 2 * width, bias=False),
        )
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (t, width) to what is added to the first, and its row (t,), the mean of the heads."""
        normed = self.norm(tokens)
        query = _heads(self.query(normed[:1]))
        key, value = (_heads(part) for part in self.key_value(normed).chunk(2, dim=-1))
        row = (query @ key.transpose(1, 2) * query.shape[-1] ** -0.5).softmax(dim=-1)
        return self.out(_joined(row @ value))[0], row.mean(dim=0)[0]


def pseudo_inverse(matrices: Tensor, steps: int = PINV_STEPS) -> Tensor:
    """Moore–Penrose inverses of square matrices (…, m, m), by the iteration of arXiv 2102.03902."""
    eye = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    rows, columns = matrices.abs().sum(dim=-1), matrices.abs().sum(dim=-2)
    inverse = matrices.transpose(-1, -2) / (rows.amax((-1,)) * columns.amax((-1,)))[..., None, None]
    for _ in range(steps):
        product = matrices @ inverse
        inverse = inverse @ (13 * eye - product @ (15 * eye - product @ (7 * eye - product))) / 4
    return inverse


def _heads(tokens: Tensor) -> Tensor:
    """Split (t, width) into (heads, t, width / heads)."""
    return tokens.reshape(len(tokens), HEADS, -1).transpose(0, 1)


def _joined(heads: Tensor) -> Tensor:
    return heads.transpose(0, 1).flatten(1)


def _side(count: int) -> int:
    """Return the side of the smallest square that holds this number of tiles."""
    side = int(count**0.5)
    return side if side * side == count else side + 1
