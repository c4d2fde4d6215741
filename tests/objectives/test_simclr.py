"""NT-Xent over the present rows, by hand."""

import pytest
import torch

from dirl.objectives.distributed import mean_over_present, project_present
from dirl.objectives.losses import nt_xent


def by_hand(first, second, present, temperature):
    """NT-Xent of one region, pair by pair."""
    rows = torch.nn.functional.normalize(torch.cat([first[present], second[present]]), dim=1)
    m = int(present.sum())
    total: torch.Tensor | float = 0.0
    for i in range(2 * m):
        similar = torch.exp(rows @ rows[i] / temperature)
        total = total - torch.log(similar[(i + m) % (2 * m)] / (similar.sum() - similar[i]))
    return total / (2 * m)


def test_equals_the_hand_computed_value_when_some_are_absent():
    a, b = torch.randn(6, 2, 8), torch.randn(6, 2, 8)
    present = torch.tensor([[1, 0], [1, 1], [0, 1], [1, 1], [1, 0], [0, 0]]).bool()
    expected = torch.stack([by_hand(a[:, r], b[:, r], present[:, r], 0.3) for r in range(2)]).mean()
    found = mean_over_present(nt_xent(a, b, present, 0.3), present)
    torch.testing.assert_close(found, expected)


def test_projection_keeps_present_rows_in_place():
    head = torch.nn.Linear(4, 3)
    tokens, present = torch.randn(2, 3, 2, 4), torch.rand(2, 3, 2) > 0.4
    out = project_present(head, 3, tokens, present)
    torch.testing.assert_close(out[present], head(tokens[present]))
    assert (out[~present] == 0).all()


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_large_projections_stay_finite(scale):
    a, b = scale * torch.randn(4, 1, 8), scale * torch.randn(4, 1, 8)
    assert torch.isfinite(nt_xent(a, b, torch.ones(4, 1, dtype=torch.bool), 0.01)).all()
