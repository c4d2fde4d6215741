"""Batch norm, sums and precision of heads and losses over all ranks."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
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
