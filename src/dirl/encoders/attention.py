"""Attention rows of a model's own query in every block and head, without full attention matrices."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from dirl.encoders.attention_capture import CLS, MEAN_PATCH, Call, anatomy, catch


@dataclass(frozen=True)
class AttentionRows:
    """Softmax rows of one query over all keys; per tile, block and head they sum to 1.

    Attributes
    ----------
    patches : Tensor of shape (t, l, a, gh, gw)
        Attention on each patch token, by tile, block and head.
    cls : Tensor of shape (t, l, a)
        Attention on [CLS]; 0 without a class token.
    registers : Tensor of shape (t, l, a)
        Attention on the other prefix tokens together: registers and a distillation token.
    query
        The query of the rows. ``cls``; ``pooling``, the query that pools the tokens, in one block; or
        ``mean patch``, the mean over the rows of all patch queries.
    norms : Tensor of shape (t, gh, gw)
        Length of the patch tokens after the last block, before the final norm. None if no model made the
        rows.
    """

    patches: Tensor
    cls: Tensor
    registers: Tensor
    query: str = CLS
    norms: Tensor | None = None

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the token grid."""
        return self.patches.shape[-2], self.patches.shape[-1]


def attention_rows(model: nn.Module, images: Tensor) -> AttentionRows:
    """Run a timm vision transformer and return the row of its own query in every block and head.

    With a class token it is the row of [CLS], the first token. This costs O(n) per head in addition to the
    model's own fused attention. Without a class token it is the row of the query that pools the tokens. If
    the model averages its tokens, it is the mean of all patch queries' rows, computed in parts.

    Parameters
    ----------
    model
        A timm vision transformer.
    images : Tensor of shape (t, 3, h, w)
        Images normalised for the model.

    Raises
    ------
    EncoderError
        If the rows cannot be read: see `dirl.encoders.attention_capture.catch`.
    """
    body = anatomy(model)

    def row(call: Call) -> Tensor | None:
        if body.query == CLS or call.query.shape[-2] == 1:
            return call.rows(0, 1)[..., 0, :]
        return mean_patch_row(call, body.prefix) if body.query == MEAN_PATCH else None

    caught = catch(model, images, row)
    found = caught.blocks if caught.pool is None else [caught.pool]
    rows = torch.stack([one for one in found if one is not None], dim=1)
    if rows.shape[-1] == caught.norms[0].numel():  # the pool skips the prefix
        rows = pad(rows, (body.prefix, 0))
    has_cls = int(body.query == CLS)
    return AttentionRows(
        patches=rows[..., body.prefix :].reshape(*rows.shape[:-1], *caught.norms.shape[1:]),
        cls=rows[..., :has_cls].sum(-1),
        registers=rows[..., has_cls : body.prefix].sum(-1),
        query=body.query,
        norms=caught.norms,
    )


def mean_patch_row(call: Call, prefix: int) -> Tensor:
    """Mean over the patch queries of their softmax rows, shape (t, a, n)."""
    total = sum(rows.sum(-2) for _, rows in call.chunks(prefix))
    assert isinstance(total, Tensor)
    return total / (call.query.shape[-2] - prefix)
