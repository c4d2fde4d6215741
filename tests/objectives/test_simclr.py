"""SimCLR and its dense term, against lightly, by hand, and over ranks."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from lightly.loss import NTXentLoss

from dirl.config import ObjectiveConfig
from dirl.encoders.encoder import EncoderOutput
from dirl.objectives.dense import project_present
from dirl.objectives.regions import RegionTokens
from dirl.objectives.simclr import SimCLR, masked_nt_xent

CONFIG = ObjectiveConfig(hidden_width=16, output_width=8)


def by_hand(first, second, present, temperature):
    """NT-Xent of one region, pair by pair."""
    rows = torch.nn.functional.normalize(torch.cat([first[present], second[present]]), dim=1)
    m = int(present.sum())
    total = 0.0
    for i in range(2 * m):
        similar = torch.exp(rows @ rows[i] / temperature)
        total = total - torch.log(similar[(i + m) % (2 * m)] / (similar.sum() - similar[i]))
    return total / (2 * m)


def test_equals_lightly_when_every_region_is_present():
    a, b = torch.randn(6, 3, 8), torch.randn(6, 3, 8)
    ours = masked_nt_xent(a, b, torch.ones(6, 3, dtype=torch.bool), 0.2)
    theirs = torch.stack([NTXentLoss(0.2)(a[:, r], b[:, r]) for r in range(3)]).mean()
    torch.testing.assert_close(ours, theirs)


def test_equals_the_hand_computed_value_when_some_are_absent():
    a, b = torch.randn(6, 2, 8), torch.randn(6, 2, 8)
    present = torch.tensor([[1, 0], [1, 1], [0, 1], [1, 1], [1, 0], [0, 0]]).bool()
    expected = torch.stack([by_hand(a[:, r], b[:, r], present[:, r], 0.3) for r in range(2)]).mean()
    torch.testing.assert_close(masked_nt_xent(a, b, present, 0.3), expected)


def test_a_region_that_nobody_has_does_not_count():
    a, b = torch.randn(4, 2, 8), torch.randn(4, 2, 8)
    present = torch.tensor([[True, False]] * 4)
    alone = masked_nt_xent(a[:, :1], b[:, :1], present[:, :1], 0.2)
    torch.testing.assert_close(masked_nt_xent(a, b, present, 0.2), alone)


def test_symmetric_in_the_views_and_in_the_order_of_tiles():
    a, b, present = torch.randn(5, 2, 8), torch.randn(5, 2, 8), torch.rand(5, 2) > 0.3
    loss = masked_nt_xent(a, b, present, 0.2)
    torch.testing.assert_close(loss, masked_nt_xent(b, a, present, 0.2))
    order = torch.randperm(5)
    torch.testing.assert_close(loss, masked_nt_xent(a[order], b[order], present[order], 0.2))


def region_tokens(tokens, present):
    return RegionTokens(tokens=tokens, present=present, mass=present.float())


def test_absent_tokens_change_neither_loss_nor_gradients_and_get_none():
    torch.manual_seed(0)
    objective = SimCLR(12, CONFIG, dense=True)
    present = torch.tensor([[1, 0], [1, 1], [0, 1], [1, 1]]).bool()

    def run(filler):
        tokens = [torch.where(present[..., None], t, torch.full_like(t, filler)) for t in base]
        tokens = [t.requires_grad_() for t in tokens]
        objective.zero_grad()
        loss = objective.dense_terms([region_tokens(t, present) for t in tokens], None)["dense"]
        loss.backward()
        return loss.detach(), [p.grad.clone() for p in objective.dense_head.parameters()], tokens[0].grad

    base = [torch.randn(4, 2, 12), torch.randn(4, 2, 12)]
    loss, head, tokens = run(0.0)
    again, head_again, tokens_again = run(1e4)
    torch.testing.assert_close(loss, again)
    for one, other in zip(head, head_again, strict=True):
        torch.testing.assert_close(one, other)
    assert (tokens[~present] == 0).all() and (tokens_again[~present] == 0).all()
    assert (tokens[present].abs().sum(dim=1) > 0).all()


def test_a_region_seen_in_one_view_only_adds_nothing():
    objective = SimCLR(12, CONFIG, dense=True)
    here, there = torch.tensor([[True]] * 4), torch.tensor([[True], [True], [True], [False]])
    tokens = [torch.randn(4, 1, 12) for _ in range(2)]
    loss = objective.dense_terms([region_tokens(tokens[0], here), region_tokens(tokens[1], there)], None)
    both = [t[:3] for t in tokens]
    expected = objective.dense_terms([region_tokens(t, here[:3]) for t in both], None)
    torch.testing.assert_close(loss["dense"], expected["dense"])


@pytest.mark.parametrize("rows", [0, 1])
def test_without_a_pair_the_loss_is_zero_and_every_parameter_has_a_gradient(rows):
    objective = SimCLR(12, CONFIG, dense=True)
    present = torch.zeros(4, 2, dtype=torch.bool)
    present[:rows, 0] = True
    tokens = torch.randn(4, 2, 12, requires_grad=True)
    loss = objective.dense_terms([region_tokens(tokens, present)] * 2, None)["dense"]
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in objective.dense_head.parameters())


def test_global_term_is_nt_xent_of_the_projected_class_tokens():
    objective = SimCLR(12, CONFIG, dense=False).eval()
    views = [
        EncoderOutput(torch.randn(5, 12), torch.zeros(5, 1, 12), torch.zeros(5, 0, 12), (1, 1)) for _ in "ab"
    ]
    expected = by_hand(
        *(objective.head(v.cls) for v in views), torch.ones(5, dtype=torch.bool), CONFIG.temperature
    )
    torch.testing.assert_close(objective.global_terms(views, None)["global"], expected)
    assert objective.dense_head is None


def test_projection_keeps_present_rows_in_place():
    head = torch.nn.Linear(4, 3)
    tokens, present = torch.randn(2, 3, 2, 4), torch.tensor([[1, 0], [0, 1], [1, 1]]).bool()
    out = project_present(head, 3, tokens, present)
    torch.testing.assert_close(out[:, present], head(tokens[:, present]))
    assert (out[:, ~present] == 0).all()


def _on_rank(rank, port, results):
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.manual_seed(0)
    a, b = torch.randn(6, 2, 8), torch.randn(6, 2, 8)
    present = torch.tensor([[1, 0], [1, 0], [1, 1], [0, 1], [0, 1], [0, 0]]).bool()
    mine = slice(rank * 3, rank * 3 + 3)
    scale = torch.ones((), requires_grad=True)
    loss = masked_nt_xent(scale * a[mine] + a[mine].detach(), b[mine], present[mine], 0.2)
    loss.backward()
    results[rank] = (loss.item(), scale.grad.item())
    dist.destroy_process_group()


def test_the_mean_over_ranks_is_the_loss_of_the_whole_batch():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    manager = mp.Manager()
    results = manager.dict()
    mp.spawn(_on_rank, args=(port, results), nprocs=2)
    torch.manual_seed(0)
    a, b = torch.randn(6, 2, 8), torch.randn(6, 2, 8)
    present = torch.tensor([[1, 0], [1, 0], [1, 1], [0, 1], [0, 1], [0, 0]]).bool()
    scale = torch.ones((), requires_grad=True)
    whole = masked_nt_xent(scale * a + a, b, present, 0.2)
    whole.backward()
    assert (results[0][0] + results[1][0]) / 2 == pytest.approx(whole.item(), rel=1e-5)
    assert (results[0][1] + results[1][1]) / 2 == pytest.approx(scale.grad.item(), rel=1e-4, abs=1e-6)
