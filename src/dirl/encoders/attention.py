"""The [CLS] token's attention in every block and head, without ever making a full attention matrix."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from dirl.errors import EncoderError

REMEDY = "name a vision transformer with a class token, such as a run or timm:vit_small_patch16_224"


@dataclass(frozen=True)
class AttentionRows:
    """Softmax rows of the [CLS] query over all keys; per tile, block and head they sum to 1.

    Attributes
    ----------
    patches : Tensor of shape (t, l, a, gh, gw)
        Attention on each patch token, by tile, block and head.
    cls : Tensor of shape (t, l, a)
        Attention of [CLS] on itself.
    registers : Tensor of shape (t, l, a)
        Attention on the other prefix tokens together: registers, a distillation token.
    """

    patches: Tensor
    cls: Tensor
    registers: Tensor

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the token grid."""
        return self.patches.shape[-2], self.patches.shape[-1]


@torch.no_grad()
def attention_rows(model: nn.Module, images: Tensor) -> AttentionRows:
    """Run a timm vision transformer and return the [CLS] row of every block and head.

    Every call of `scaled_dot_product_attention` is intercepted: there q and k are what the softmax sees,
    after rotary embedding and norms, which no hook on a `qkv` layer can promise. Only
    ``softmax(q_cls Kᵀ · scale + mask)`` is computed beside it, O(n) per head. Fused attention is switched
    on for the call, dropout off; both are restored.

    Parameters
    ----------
    model
        A timm vision transformer with a class token, as the first token.
    images : Tensor of shape (t, 3, h, w)
        Normalised as the model wants them.

    Raises
    ------
    EncoderError
        If the rows cannot be had whole and right: no class token, not a plain stack of blocks, another
        number of attention calls than blocks or another number of tokens than the grid has, a causal
        mask, fewer heads of keys than of queries.
    """
    blocks, prefix = _anatomy(model)
    gh, gw = _grid(model, images.shape[-2], images.shape[-1])
    caught: list[Tensor] = []
    with _fused_eval(model), _Catch(caught):
        model(images)
    kind = type(model).__name__
    if len(caught) != blocks:
        what = "does not use fused attention" if not caught else f"calls attention {len(caught)} times"
        raise EncoderError(f"{kind} {what} in {blocks} blocks", where="attention", remedy=REMEDY)
    expected = (len(images), prefix + gh * gw)
    for number, row in enumerate(caught):
        if (row.shape[0], row.shape[-1]) != expected or row.shape != caught[0].shape:
            raise EncoderError(
                f"{kind} attends over {row.shape[0]} × {row.shape[-1]} tokens in block {number}, expected "
                f"{expected[0]} × ({prefix} + {gh}·{gw}): windows, stages or another token order",
                where="attention",
                remedy=REMEDY,
            )
    rows = torch.stack(caught, dim=1)
    return AttentionRows(
        patches=rows[..., prefix:].reshape(*rows.shape[:-1], gh, gw),
        cls=rows[..., 0],
        registers=rows[..., 1:prefix].sum(-1),
    )


def _anatomy(model: nn.Module) -> tuple[int, int]:
    """Number of blocks and of prefix tokens."""
    kind = type(model).__name__
    if not isinstance(getattr(model, "cls_token", None), Tensor):
        reason = f"{kind} has no class token: it pools its tokens by average or by a query of its own"
        raise EncoderError(reason, where="attention", remedy=REMEDY)
    blocks, prefix = getattr(model, "blocks", None), getattr(model, "num_prefix_tokens", 1)
    if not isinstance(blocks, nn.Sequential | nn.ModuleList):
        raise EncoderError(f"{kind} is not one stack of blocks", where="attention", remedy=REMEDY)
    return len(blocks), int(prefix)


def _grid(model: nn.Module, height: int, width: int) -> tuple[int, int]:
    embed = getattr(model, "patch_embed", None)
    feat_size = getattr(embed, "dynamic_feat_size", None)
    if feat_size is None:
        kind = type(model).__name__
        raise EncoderError(f"{kind} has no token grid of its own", where="attention", remedy=REMEDY)
    rows, columns = feat_size((height, width))
    return int(rows), int(columns)


@contextmanager
def _fused_eval(model: nn.Module) -> Iterator[None]:
    modules: list[Any] = list(model.modules())
    training = [(module, module.training) for module in modules]
    fused = [(module, module.fused_attn) for module in modules if hasattr(module, "fused_attn")]
    model.eval()
    for module, _ in fused:
        module.fused_attn = True
    try:
        yield
    finally:
        for module, was in fused:
            module.fused_attn = was
        for module, was_training in training:
            module.training = was_training


class _Catch(TorchFunctionMode):
    """Appends the first query's softmax row of every attention call to a list."""

    def __init__(self, caught: list[Tensor]) -> None:
        super().__init__()
        self.caught = caught

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is scaled_dot_product_attention:
            self.caught.append(_first_row(*args, **kwargs))
        return func(*args, **kwargs)


def _first_row(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Softmax row of the first query over all keys, in float32 whatever the precision of the forward."""
    if is_causal:
        raise EncoderError("causal attention: [CLS] sees only itself", where="attention", remedy=REMEDY)
    if enable_gqa or query.shape[:-2] != key.shape[:-2] or query.ndim != 4:
        reason = "keys are shared between heads (grouped queries)"
        raise EncoderError(reason, where="attention", remedy=REMEDY)
    with torch.autocast(query.device.type, enabled=False):
        scaled = query[..., :1, :].float() * (query.shape[-1] ** -0.5 if scale is None else scale)
        logits = scaled @ key.float().transpose(-2, -1)
        if attn_mask is not None:
            mask = attn_mask[..., :1, :]
            if mask.dtype == torch.bool:
                logits = logits.masked_fill(~mask, float("-inf"))
            else:
                logits = logits + mask.float()
        return logits.softmax(-1)[..., 0, :]
