"""What every dense loss shares: only present rows reach a head, and ranks with different rows agree."""

import torch
import torch.distributed as dist
from lightly.utils.dist import gather
from torch import Tensor, nn


def project_present(head: nn.Module, width: int, tokens: Tensor, present: Tensor) -> Tensor:
    """Send the present rows, and no others, through a head.

    Batch norm in a head would let absent rows leak into present ones, so they are left out before it.

    Parameters
    ----------
    head
        Maps ``(m, d)`` to ``(m, p)``.
    width
        ``p``.
    tokens
        Region tokens ``(v, b, r, d)``.
    present
        Bool ``(b, r)``: present in every view.

    Returns
    -------
    Tensor
        ``(v, b, r, p)``, zero where absent. With fewer than two rows in all it is zero everywhere but
        still depends on every parameter of the head, so that no rank waits for a gradient.
    """
    everywhere = present.expand(tokens.shape[0], *present.shape)
    rows: Tensor = tokens[everywhere]
    # Plain batch norm needs two rows; the synchronised one takes any number, and all ranks must call it.
    synced = any(isinstance(module, nn.SyncBatchNorm) for module in head.modules())
    if len(rows) < 2 and not synced:
        nothing: Tensor = tokens.sum() * 0 + torch.stack([p.sum() for p in head.parameters()]).sum() * 0
        return nothing.expand(*everywhere.shape, width)
    projected: Tensor = head(rows)
    out = projected.new_zeros(*everywhere.shape, width)
    out[everywhere] = projected
    return out


def gather_padded(rows: Tensor, present: Tensor) -> tuple[Tensor, Tensor, int]:
    """Collect every rank's rows, absent ones included, with the mask that tells them apart.

    Parameters
    ----------
    rows
        ``(b, ...)``, the same shape on every rank.
    present
        Bool ``(b, ...)``.

    Returns
    -------
    rows : Tensor
        ``(ranks * b, ...)``; gradients flow back to the rank that they came from.
    present : Tensor
        Likewise.
    offset : int
        Where this rank's rows begin.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return rows, present, 0
    everyone = torch.cat(gather(rows), dim=0)
    masks = [torch.empty_like(present) for _ in range(dist.get_world_size())]
    dist.all_gather(masks, present)
    return everyone, torch.cat(masks, dim=0), dist.get_rank() * len(rows)


def mean_over_present(values: Tensor, present: Tensor, everywhere: Tensor) -> Tensor:
    """Average over a region's present rows, then over the regions that are present.

    Parameters
    ----------
    values
        One loss per row and region on this rank, ``(b, r)``.
    present
        Bool ``(b, r)`` on this rank.
    everywhere
        Bool ``(ranks * b, r)`` on all ranks.

    Returns
    -------
    Tensor
        Scalar. Its mean over ranks, which is what data-parallel training takes, is the mean over all rows
        of all ranks, however unequally they are spread. Zero, with a graph, when nothing is present.
    """
    counts = everywhere.sum(dim=0)
    ranks = len(everywhere) // len(present)
    per_region = torch.where(present, values, 0).sum(dim=0) / counts.clamp(min=1)
    return ranks * per_region.sum() / (counts > 0).sum().clamp(min=1)
