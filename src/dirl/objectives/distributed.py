"""Helpers of heads and losses that work over all ranks, and leave out absent rows."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from lightly.utils.dist import gather
from torch import Tensor, nn


class BatchNorm(nn.BatchNorm1d):
    """``BatchNorm1d`` with statistics over the rows of all ranks.

    torch's own synchronised batch norm runs on GPUs only. We need tests on a CPU, so this is an
    implementation without GPUs. Ranks may have different numbers of rows, also none.
    """

    def forward(self, rows: Tensor) -> Tensor:
        """Normalise ``(m, d)``."""
        if not (self.training and ranks() > 1):
            return super().forward(rows)
        values = rows.float()
        count = all_sum(values.new_tensor([len(values)])).clamp(min=1)
        mean = all_sum(values.sum(dim=0)) / count
        variance = all_sum((values - mean).square().sum(dim=0)) / count
        assert self.running_mean is not None and self.running_var is not None
        with torch.no_grad():
            share = self.momentum or 0.0
            self.running_mean.lerp_(mean.detach(), share)
            self.running_var.lerp_(variance.detach() * count / (count - 1).clamp(min=1), share)
        normed = (values - mean) * torch.rsqrt(variance + self.eps)
        if self.affine:
            normed = normed * self.weight + self.bias
        return normed.to(rows.dtype)


def synchronised(module: nn.Module) -> nn.Module:
    """Replace every ``BatchNorm1d`` of a module by `BatchNorm`, with the same parameters."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm1d:
            fresh = BatchNorm(child.num_features, child.eps, child.momentum, child.affine)
            fresh.load_state_dict(child.state_dict())
            setattr(module, name, fresh)
        else:
            synchronised(child)
    return module


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute losses in float32 at any precision of the run: autocast would use half for products."""
    with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
        yield


def ranks() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def all_sum(values: Tensor) -> Tensor:
    """Sum over ranks; gradients flow back to all of them."""
    if ranks() == 1:
        return values
    from torch.distributed.nn.functional import all_reduce

    total: Tensor = all_reduce(values)  # type: ignore[no-untyped-call]
    return total


def project_present(head: nn.Module, width: int, tokens: Tensor, present: Tensor) -> Tensor:
    """Send the present ones of the region tokens ``(v, b, r, d)`` through a head, ``(m, d)`` to ``(m, p)``.

    Batch norm in a head would let absent rows leak into present ones, so they are left out before it. The
    result ``(v, b, r, p)``, with p `width`, is zero where absent. With fewer than two rows it is zero
    everywhere, and all parameters keep a (zero) gradient; otherwise DDP would wait.
    """
    rows: Tensor = tokens[present]
    # Batch norm needs two rows. Over several ranks it takes any number, and every rank must call it.
    if len(rows) < 2 and ranks() == 1:
        parameters = [p.sum() for p in head.parameters()]
        nothing: Tensor = tokens.sum() * 0 + (torch.stack(parameters).sum() * 0 if parameters else 0)
        return nothing.expand(*present.shape, width)
    projected: Tensor = head(rows)
    out = projected.new_zeros(*present.shape, width)
    out[present] = projected
    return out


def gather_padded(rows: Tensor, present: Tensor) -> tuple[Tensor, Tensor, int]:
    """Collect every rank's rows, absent ones included, and the mask of the present ones.

    Parameters
    ----------
    rows
        ``(b, ...)``, the same shape on every rank.
    present
        Bool ``(b, ...)``.

    Returns
    -------
    rows : Tensor
        ``(ranks * b, ...)``; gradients flow back to the rank of each row.
    present : Tensor
        Bool ``(ranks * b, ...)``.
    offset : int
        Index of this rank's first row.
    """
    if ranks() == 1:
        return rows, present, 0
    everyone = torch.cat(gather(rows.contiguous()), dim=0)
    masks = [torch.empty_like(present) for _ in range(ranks())]
    dist.all_gather(masks, present.contiguous())
    return everyone, torch.cat(masks, dim=0), dist.get_rank() * len(rows)


def mean_over_present(values: Tensor, present: Tensor) -> Tensor:
    """Average losses ``(m, r)`` of this rank over a region's present rows, then over the present regions.

    The scalar is scaled so that DDP's mean over ranks is the mean over all rows, even if ranks have different
    numbers of them. It is zero, with a graph, if nothing is present.
    """
    counts = all_sum(present.sum(dim=0).float())
    per_region = torch.where(present, values, 0).sum(dim=0) / counts.clamp(min=1)
    return ranks() * per_region.sum() / (counts > 0).sum().clamp(min=1)
