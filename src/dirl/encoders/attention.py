"""Attention rows of a model's own query in every block and head, without full attention matrices.

The queries and keys are captured at each call of attention while the unchanged model runs.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import torch
from timm.layers import AttentionPoolLatent
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from dirl.core.errors import EncoderError
from dirl.encoders.forms import Query

REMEDY = "give a vision transformer of plain blocks, such as a run or timm:vit_small_patch16_224"
CHUNK = 2**23
"""Largest number of attention values in memory at a time: 32 MiB of float32."""

CLS: Final = "cls"
POOLING: Final = "pooling"
MEAN_PATCH: Final = "mean patch"

Kept = TypeVar("Kept")


@dataclass(frozen=True)
class Call:
    """One call of attention, after rotary embedding and norms: query (t, a, m, d) and key (t, a, n, d).

    `scale` multiplies the products. `mask` is added to the logits, or False for those that are left out; it
    broadcasts to (t, a, m, n).
    """

    query: Tensor
    key: Tensor
    scale: float
    mask: Tensor | None

    def rows(self, start: int, stop: int) -> Tensor:
        """Softmax rows (t, a, stop - start, n), in float32 at any precision of the forward pass."""
        with torch.autocast(self.query.device.type, enabled=False):
            logits = (self.query[..., start:stop, :].float() * self.scale) @ self.key.float().mT
            if self.mask is not None:
                mask = self.mask if self.mask.shape[-2] == 1 else self.mask[..., start:stop, :]
                if mask.dtype == torch.bool:
                    logits = logits.masked_fill(~mask, float("-inf"))
                else:
                    logits = logits + mask.float()
            return logits.softmax(-1)

    def chunks(self, start: int = 0) -> Iterator[tuple[int, Tensor]]:
        """All rows from `start` on, in chunks, each with the number of its first query."""
        tiles, heads, queries, _ = self.query.shape
        step = max(1, CHUNK // (tiles * heads * self.key.shape[-2]))
        for first in range(start, queries, step):
            yield first, self.rows(first, min(first + step, queries))


@dataclass(frozen=True)
class Anatomy:
    """Parts of a model that are needed to read its attention.

    `pool` is the attention that pools its tokens, if that row is read. `prefix` counts the tokens before the
    patch tokens: [CLS], registers, a distillation token. `kind` is the model's class, for errors.
    """

    kind: str
    blocks: nn.Sequential | nn.ModuleList
    pool: nn.Module | None
    prefix: int
    query: Query


@dataclass(frozen=True)
class Caught(Generic[Kept]):
    """What `catch` kept of each block and of the pool, if there is one.

    `norms` (t, gh, gw) is the length of the patch tokens after the last block, before the final norm.
    `output` is what the run returned.
    """

    blocks: list[Kept]
    pool: Kept | None
    norms: Tensor
    output: Tensor


def anatomy(model: nn.Module) -> Anatomy:
    """Find the parts of a timm model that are needed to read its attention.

    It must be a plain stack of blocks, with a class token or with pooling by average or by a query.
    """
    kind = type(model).__name__
    blocks, prefix = getattr(model, "blocks", None), int(getattr(model, "num_prefix_tokens", 1))
    if not isinstance(blocks, nn.Sequential | nn.ModuleList) or not len(blocks):
        raise EncoderError(f"{kind} is not one stack of blocks", where="attention", remedy=REMEDY)
    pool, pooling = getattr(model, "attn_pool", None), getattr(model, "global_pool", None)
    if isinstance(getattr(model, "cls_token", None), Tensor):
        return Anatomy(kind, blocks, None, prefix, CLS)
    if isinstance(pool, AttentionPoolLatent) and pool.latent_len == 1:
        return Anatomy(kind, blocks, pool, prefix, POOLING)
    if pool is None and pooling == "avg" and hasattr(model, "num_prefix_tokens"):
        return Anatomy(kind, blocks, None, prefix, MEAN_PATCH)
    reason = f"{kind} has no class token, and neither averages its tokens nor pools them by one query"
    raise EncoderError(reason, where="attention", remedy=REMEDY)


def token_grid(model: nn.Module, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of a model's patch tokens for images of this size in pixels."""
    feat_size = getattr(getattr(model, "patch_embed", None), "dynamic_feat_size", None)
    if feat_size is None:
        kind = type(model).__name__
        raise EncoderError(f"{kind} has no token grid of its own", where="attention", remedy=REMEDY)
    rows, columns = feat_size((height, width))
    return int(rows), int(columns)


@torch.no_grad()
def catch(
    model: nn.Module,
    images: Tensor,
    keep: Callable[[Call], Kept],
    run: Callable[[Tensor], Tensor] | None = None,
) -> Caught[Kept]:
    """Run a model on normalised images (t, 3, h, w), and keep a result of each block's call of attention.

    `run` runs the model, and pools its tokens in another way than the model does.

    Every call of `scaled_dot_product_attention` is intercepted. Its q and k are the inputs of the softmax; a
    hook on a `qkv` layer could not guarantee that. Hooks show the block of each call. During the run fused
    attention is on and dropout is off; both are restored.

    `keep` computes the result of a call. A call holds the queries and keys of all tokens, so do not keep it.
    It is an `EncoderError` if a block does not call attention exactly once, attends to tokens other than
    prefix and grid, or masks causally.
    """
    body = anatomy(model)
    gh, gw = token_grid(model, images.shape[-2], images.shape[-1])
    length = body.prefix + gh * gw
    parts: list[nn.Module] = [*body.blocks, *([body.pool] if body.pool is not None else [])]
    unread = getattr(model, "attn_pool", None) if body.pool is None else None
    inside: list[nn.Module] = []
    outputs: list[Tensor] = []
    kept: dict[nn.Module, list[Kept]] = {part: [] for part in parts}

    def take(call: Call) -> None:
        where = inside[-1] if inside else None
        if where is not None and where is unread:
            return
        if where not in kept:
            reason = f"{body.kind} calls attention outside its blocks"
            raise EncoderError(reason, where="attention", remedy=REMEDY)
        queries, found = length, (call.query.shape[0], call.query.shape[-2], call.key.shape[-2])
        if where is body.pool:  # some pools attend only to the patch tokens
            queries, right = 1, found[2] in (length, gh * gw)
        else:
            right = found[2] == length
        if found[:2] != (len(images), queries) or not right:
            raise EncoderError(
                f"{body.kind} attends from {found[1]} to {found[2]} tokens of {found[0]} images, not from "
                f"{queries} to {body.prefix} + {gh}·{gw} of {len(images)}: windows, stages or another order",
                where="attention",
                remedy=REMEDY,
            )
        kept[where].append(keep(call))

    def leave(*_: Any) -> None:
        inside.pop()

    watched = [*parts, *([unread] if unread is not None else [])]
    hooks = [part.register_forward_pre_hook(lambda part, _: inside.append(part)) for part in watched]
    hooks += [part.register_forward_hook(leave) for part in watched]
    hooks.append(body.blocks[-1].register_forward_hook(lambda *call: outputs.append(call[-1])))
    try:
        with fused_eval(model), _Intercept(take):
            output = (run or model)(images)
    finally:
        for hook in hooks:
            hook.remove()
    for number, calls in enumerate(kept.values()):
        if len(calls) != 1:
            what = f"calls attention {len(calls)} times" if calls else "does not use fused attention"
            which = f"block {number} of {len(body.blocks)}" if number < len(body.blocks) else "its pool"
            raise EncoderError(f"{body.kind} {what} in {which}", where="attention", remedy=REMEDY)
    return Caught(
        blocks=[kept[block][0] for block in body.blocks],
        pool=None if body.pool is None else kept[body.pool][0],
        norms=outputs[0][:, body.prefix :].float().norm(dim=-1).view(len(images), gh, gw),
        output=output,
    )


@contextmanager
def fused_eval(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode with fused attention in a block, and restore its state."""
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


class _Intercept(TorchFunctionMode):
    """Passes every call of attention to a function before the call is made."""

    def __init__(self, take: Callable[[Call], None]) -> None:
        super().__init__()
        self.take = take

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is scaled_dot_product_attention:
            self.take(_call(*args, **kwargs))
        return func(*args, **kwargs)


def _call(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Call:
    if is_causal:
        raise EncoderError("causal attention: [CLS] sees only itself", where="attention", remedy=REMEDY)
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], dim=-3)
    if query.ndim != 4 or query.shape[:-2] != key.shape[:-2]:
        reason = f"queries of shape {tuple(query.shape)} and keys of shape {tuple(key.shape)}"
        raise EncoderError(reason, where="attention", remedy=REMEDY)
    return Call(query, key, query.shape[-1] ** -0.5 if scale is None else scale, attn_mask)


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
        The query of the rows; the row of ``pooling`` is of one block.
    norms : Tensor of shape (t, gh, gw)
        Length of the patch tokens after the last block, before the final norm. None if no model made the
        rows.
    embeddings : Tensor of shape (t, d)
        The embeddings of the same pass, in float32. None if no model made the rows.
    """

    patches: Tensor
    cls: Tensor
    registers: Tensor
    query: Query = CLS
    norms: Tensor | None = None
    embeddings: Tensor | None = None

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the token grid."""
        return self.patches.shape[-2], self.patches.shape[-1]


def attention_rows(
    model: nn.Module, images: Tensor, run: Callable[[Tensor], Tensor] | None = None
) -> AttentionRows:
    """Run a timm vision transformer and return the row of its own query in every block and head.

    The images (t, 3, h, w) are normalised for the model. With a class token it is the row of [CLS], the first
    token. This costs O(n) per head in addition to the model's own fused attention. Without a class token it
    is the row of the query that pools the tokens. If the model averages its tokens, it is the mean of all
    patch queries' rows, computed in parts. `run` embeds the images by the model; by default the model itself.
    """
    body = anatomy(model)

    def row(call: Call) -> Tensor | None:
        if body.query == CLS or call.query.shape[-2] == 1:
            return call.rows(0, 1)[..., 0, :]
        return mean_patch_row(call, body.prefix) if body.query == MEAN_PATCH else None

    caught = catch(model, images, row, run)
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
        embeddings=caught.output.float(),
    )


def mean_patch_row(call: Call, prefix: int) -> Tensor:
    """Mean over the patch queries of their softmax rows, shape (t, a, n)."""
    total = sum(rows.sum(-2) for _, rows in call.chunks(prefix))
    assert isinstance(total, Tensor)
    return total / (call.query.shape[-2] - prefix)
