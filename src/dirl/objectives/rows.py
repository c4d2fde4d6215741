"""Drop absent regions before the head; correct averages over GPUs."""

import torch
import torch.distributed as dist
from lightly.utils.dist import gather
from torch import Tensor, nn

from dirl.objectives.distributed import all_sum, ranks


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
        Bool ``(v, b, r)``.

    Returns
    -------
    Tensor
        ``(v, b, r, p)``, zero where absent. With fewer than two rows it is zero everywhere. All
        parameters keep a (zero) gradient; otherwise DDP would wait.
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
    """Average over a region's present rows, then over the regions that are present.

    Parameters
    ----------
    values
        One loss per row and region on this rank, ``(m, r)``.
    present
        Bool ``(m, r)`` on this rank.

    Returns
    -------
    Tensor
        Scalar, scaled so that DDP's mean gives the global mean, even if ranks have different numbers of rows.
        Zero, with a graph, if nothing is present.
    """
    counts = all_sum(present.sum(dim=0).float())
    per_region = torch.where(present, values, 0).sum(dim=0) / counts.clamp(min=1)
    return ranks() * per_region.sum() / (counts > 0).sum().clamp(min=1)
