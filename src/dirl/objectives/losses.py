"""Losses of region tokens, row by row. A row is one region of one tile; absent rows are masked.

If there is one region, present in every tile, the formulas equal those of the class tokens.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from dirl.objectives.distributed import all_sum, full_precision, gather_padded

VARIANCE_EPSILON = 1e-4


@full_precision()
def nt_xent(first: Tensor, second: Tensor, present: Tensor, temperature: float) -> Tensor:
    """NT-Xent of each region over the tiles in which it is present, as one loss per row.

    With every region present its mean over rows is lightly's ``NTXentLoss`` of that region.

    Parameters
    ----------
    first, second
        Projections of the two views, ``(b, r, p)``; anything where absent.
    present
        Bool ``(b, r)``: present in both views.
    temperature
        Divides the cosine similarities.

    Returns
    -------
    Tensor
        Mean of both directions, ``(b, r)``; arbitrary finite values where absent.
    """
    views = F.normalize(torch.stack([first, second], dim=1).float(), dim=-1)
    everyone, everywhere, offset = gather_padded(views, present)
    b, total = len(views), len(everyone)
    logits = torch.einsum("ivrp,jwrp->rviwj", views, everyone) / temperature

    # Keys: every present row but oneself. A finite minimum keeps the gradients of absent rows finite.
    allowed = everywhere.T[:, None, None, None, :].expand(-1, 2, b, 2, total).clone()
    here = torch.arange(b, device=views.device)
    for view in (0, 1):
        allowed[:, view, here, view, offset + here] = False
    logits = logits.masked_fill(~allowed, torch.finfo(logits.dtype).min)
    positive = torch.stack([logits[:, v, here, 1 - v, offset + here] for v in (0, 1)], dim=1)
    losses = logits.flatten(3).logsumexp(dim=-1) - positive
    return (losses / 2).sum(dim=1).T


@full_precision()
def info_nce(queries: Tensor, keys: Tensor, present: Tensor, temperature: float) -> Tensor:
    """InfoNCE of each region, times twice the temperature as in MoCo v3 (algorithm 1), per row.

    Parameters
    ----------
    queries, keys
        ``(b, r, p)``; anything where absent. The keys of a row's region in all tiles are its candidates.
    present
        Bool ``(b, r)``: present in both views.
    temperature
        Divides the cosine similarities.

    Returns
    -------
    Tensor
        ``(b, r)``; arbitrary finite values where absent.
    """
    queries, keys = (F.normalize(rows.float(), dim=-1) for rows in (queries, keys))
    everyone, everywhere, offset = gather_padded(keys, present)
    logits = torch.einsum("irp,jrp->rij", queries, everyone) / temperature
    logits = logits.masked_fill(~everywhere.T[:, None], torch.finfo(logits.dtype).min)
    here = torch.arange(len(queries), device=queries.device)
    losses = logits.logsumexp(dim=-1) - logits[:, here, offset + here]
    return 2 * temperature * losses.T


@full_precision()
def variance_covariance(rows: Tensor, present: Tensor) -> Tensor:
    """Return the variance and the covariance term of one view, over the present rows of all ranks.

    Parameters
    ----------
    rows
        ``(b, r, p)``; anything where absent.
    present
        Bool ``(b, r)``.

    Returns
    -------
    Tensor
        Two numbers, averaged over the regions with at least two rows; zeros, with a graph, if there are none.
    """
    everyone, everywhere, _ = gather_padded(rows, present)
    counts = everywhere.sum(dim=0)
    counted = counts > 1
    mask = everywhere[..., None]
    mean = torch.where(mask, everyone, 0).sum(dim=0) / counts.clamp(min=1)[:, None]
    centred = torch.where(mask, everyone - mean, 0)
    covariance = torch.einsum("brp,brq->rpq", centred, centred) / (counts - 1).clamp(min=1)[:, None, None]
    variances = covariance.diagonal(dim1=1, dim2=2)
    spread = torch.relu(1 - torch.sqrt(variances + VARIANCE_EPSILON)).mean(dim=-1)
    width = rows.shape[-1]
    repeated = (covariance.square().sum(dim=(1, 2)) - variances.square().sum(dim=-1)) / width
    terms = torch.stack([spread, repeated])
    total: Tensor = torch.where(counted, terms, 0).sum(dim=1) / counted.sum().clamp(min=1)
    return total


def cross_entropy(targets: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of the student's softmax against the teacher's distribution.

    Parameters
    ----------
    targets
        Distributions over prototypes, ``(..., p)``.
    logits
        The student's, ``(..., p)``.
    temperature
        The student's.

    Returns
    -------
    Tensor
        ``(...)``.
    """
    return -(targets * F.log_softmax(logits.float() / temperature, dim=-1)).sum(dim=-1)


@torch.no_grad()
def sinkhorn(logits: Tensor, present: Tensor, temperature: float, iterations: int = 3) -> Tensor:
    """Distribute rows evenly over prototypes, by Sinkhorn and Knopp's iterations over all ranks.

    As in SwAV (Caron et al., 2020, arXiv 2006.09882) and DINOv2, where it replaces the centring. Absent rows
    take no part. If all are present it equals lightly's ``sinkhorn``.

    Parameters
    ----------
    logits
        The teacher's, ``(m, r, p)``; each ``r`` is distributed by itself.
    present
        Bool ``(m, r)``.
    temperature
        Divides the logits.
    iterations
        Rounds of normalisation.

    Returns
    -------
    Tensor
        Distributions ``(m, r, p)``; zero where absent.
    """
    scaled = logits.float() / temperature
    # The shift keeps the exponential finite. It is the same on every rank: the first division removes it.
    scaled = scaled.masked_fill(~present[..., None], -torch.inf)
    plan = torch.exp(scaled - _largest(scaled.amax().clamp(min=torch.finfo(scaled.dtype).min)))
    count = all_sum(present.sum(dim=0).float()).clamp(min=1)[None, :, None]
    plan = plan / all_sum(plan.sum(dim=(0, 2))).clamp(min=1e-30)[None, :, None]
    for _ in range(iterations):
        plan = plan / all_sum(plan.sum(dim=0, keepdim=True)).clamp(min=1e-30)
        plan = plan / plan.sum(dim=-1, keepdim=True).clamp(min=1e-30) / count
    return plan * count


def _largest(value: Tensor) -> Tensor:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        value = value.clone()
        torch.distributed.all_reduce(value, op=torch.distributed.ReduceOp.MAX)
    return value
