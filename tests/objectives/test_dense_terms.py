"""The dense term of every objective: masking, averaging, symmetry, lightly's value, two ranks."""

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import DINOLoss, NegativeCosineSimilarity, NTXentLoss, VICRegLoss

from tests.known import known
from tests.objective_cases import BATCH, REGIONS, SMALL, WIDTH, build, regions, teacher_of

OBJECTIVES = sorted(SMALL)
SOME = torch.tensor([[1, 0], [1, 1], [0, 1], [1, 1], [1, 1], [0, 0]]).bool()
ALL = torch.ones(BATCH, REGIONS, dtype=torch.bool)


def tokens(count=2, seed=3):
    torch.manual_seed(seed)
    return [torch.randn(BATCH, REGIONS, WIDTH) for _ in range(count)]


def dense(objective, student, present, taught=None, taught_present=None):
    """Value of the dense term; the teacher sees what the student sees unless it is told."""
    present = [present] * len(student) if isinstance(present, torch.Tensor) else present
    taught = student[:2] if taught is None else taught
    aims = [regions(t, p) for t, p in zip(taught, taught_present or present, strict=False)]
    found = [regions(t, p) for t, p in zip(student, present, strict=True)]
    teacher = teacher_of(objective, aims)
    return (objective.dense_terms(found, teacher) if teacher else objective.dense_terms(found))["dense"]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_equals_lightly_region_by_region_when_all_are_present(name):
    objective = build(name)
    student = tokens()
    ours = dense(objective, student, ALL)
    teacher = teacher_of(build(name), student)
    heads = torch.nn.Sequential(objective.dense_projector, objective.dense_predictor)
    # One projection of all rows at once: that is what batch norm sees.
    z = heads(torch.stack(student).flatten(0, 2)).view(2, BATCH, REGIONS, -1)
    if teacher is not None:
        aims = teacher.objective.dense_projector(torch.stack(student).flatten(0, 2))
        aims = aims.view(2, BATCH, REGIONS, -1).detach()
    if name == "simclr":
        expected = [NTXentLoss(0.2)(z[0, :, r], z[1, :, r]) for r in range(REGIONS)]
    elif name == "vicreg":
        expected = [VICRegLoss()(z[0, :, r], z[1, :, r]) for r in range(REGIONS)]
    elif name == "byol":
        cosine = NegativeCosineSimilarity()
        expected = [
            (cosine(z[0, :, r], aims[1, :, r]) + cosine(z[1, :, r], aims[0, :, r])) / 2
            for r in range(REGIONS)
        ]
    elif name == "dino":
        expected = [
            DINOLoss(20)(list(aims[:, :, r]), list(z[:, :, r]), teacher_temp=0.04) for r in range(REGIONS)
        ]
    elif name == "moco":
        expected = []
        for r in range(REGIONS):
            logits = [
                F.normalize(z[s, :, r], dim=-1) @ F.normalize(aims[1 - s, :, r], dim=-1).T / 0.2
                for s in range(2)
            ]
            expected.append(
                2 * 0.2 * torch.stack([F.cross_entropy(g, torch.arange(BATCH)) for g in logits]).mean()
            )
    else:
        from lightly.loss.swav_loss import sinkhorn

        expected = []
        for r in range(REGIONS):
            target = sinkhorn(aims[:, :, r].flatten(0, 1), 3, 0.04).view(2, BATCH, -1)
            rows = [-(target[1 - s] * F.log_softmax(z[s, :, r] / 0.1, -1)).sum(-1) for s in range(2)]
            expected.append(torch.stack(rows).mean())
    torch.testing.assert_close(ours, torch.stack(expected).mean(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_absent_tokens_change_neither_loss_nor_gradients_and_get_none(name):
    base = tokens()

    def run(filler):
        objective = build(name)
        student = [torch.where(SOME[..., None], t, torch.full_like(t, filler)) for t in base]
        student = [t.requires_grad_() for t in student]
        loss = dense(objective, student, SOME, taught=[t.detach() for t in student])
        loss.backward()
        grads = [p.grad for p in objective.dense_projector.parameters() if p.grad is not None]
        return loss.detach(), grads, student[0].grad

    (loss, heads, rows), (again, heads_again, rows_again) = run(0.0), run(1e4)
    torch.testing.assert_close(loss, again)
    for one, other in zip(heads, heads_again, strict=True):
        torch.testing.assert_close(one, other)
    assert (rows[~SOME] == 0).all() and (rows_again[~SOME] == 0).all()
    assert (rows[SOME].abs().sum(dim=1) > 0).all()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_region_seen_in_one_view_only_adds_nothing(name):
    student = tokens()
    other = SOME.clone()
    other[3, 0] = False
    expected = dense(build(name), student, SOME & other)
    torch.testing.assert_close(dense(build(name), student, [SOME, other]), expected)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_region_that_nobody_has_does_not_count(name):
    present = ALL.clone()
    present[:, 1] = False
    student = tokens()
    alone = dense(build(name, regions=1), [t[:, :1] for t in student], present[:, :1])
    torch.testing.assert_close(dense(build(name), student, present), alone)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_symmetric_in_the_views_and_in_the_order_of_tiles(name):
    student = tokens()
    loss = dense(build(name), student, SOME)
    torch.testing.assert_close(loss, dense(build(name), student[::-1], SOME))
    order = torch.randperm(BATCH)
    torch.testing.assert_close(loss, dense(build(name), [t[order] for t in student], SOME[order]))


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("rows", [0, 1])
def test_with_too_few_rows_it_is_finite_and_every_parameter_has_a_gradient(name, rows):
    objective = build(name)
    present = torch.zeros(BATCH, REGIONS, dtype=torch.bool)
    present[:rows, 0] = True
    student = [t.requires_grad_() for t in tokens()]
    loss = dense(objective, student, present, taught=[t.detach() for t in student])
    loss.backward()
    assert torch.isfinite(loss)
    trained = [
        p
        for part in (objective.dense_projector, objective.dense_predictor)
        for p in part.parameters()
        if p.requires_grad
    ]
    assert trained and all(p.grad is not None and torch.isfinite(p.grad).all() for p in trained)


@pytest.mark.parametrize("name", ["dino", "dinov2"])
def test_local_views_take_part_where_they_hold_the_region(name):
    student = tokens(4)
    none = torch.zeros_like(ALL)
    without = dense(build(name), student[:2], ALL)
    torch.testing.assert_close(dense(build(name), student, [ALL, ALL, none, none]), without)
    assert not torch.isclose(dense(build(name), student, [ALL, ALL, SOME, none]), without)


def test_the_centre_of_a_region_is_the_mean_of_its_present_rows():
    objective = build("dino", center_momentum=0.5)
    projected = torch.randn(2, BATCH, REGIONS, 20)
    present = SOME.expand(2, -1, -1)
    objective.region_targets(projected, present)
    expected = torch.stack([projected[:, SOME[:, r], r].mean(dim=(0, 1)) for r in range(REGIONS)]) / 2
    torch.testing.assert_close(objective.dense_center, expected)


def _half(rank, name):
    mine = slice(rank * 3, rank * 3 + 3)
    return _value(name, mine)


def _value(name, mine):
    """Loss, and gradients of the heads and of a scale that all tokens share."""
    objective = build(name)
    scale = torch.ones((), requires_grad=True)
    student = [t[mine] * scale for t in tokens()]
    loss = dense(objective, student, SOME[mine], taught=[t.detach() for t in student])
    loss.backward()
    grads = [p.grad.clone() for p in objective.dense_projector.parameters() if p.grad is not None]
    return loss.item(), known(scale.grad).item(), [g.numpy() for g in grads]


def _both(rank):
    return {name: _half(rank, name) for name in OBJECTIVES}


def test_the_mean_over_ranks_is_the_value_of_the_whole_batch(on_two_ranks):
    halves = on_two_ranks(_both)
    for name in OBJECTIVES:
        loss, scale, grads = _value(name, slice(None))
        assert sum(h[name][0] for h in halves) / 2 == pytest.approx(loss, rel=1e-4, abs=1e-5), name
        assert sum(h[name][1] for h in halves) / 2 == pytest.approx(scale, rel=1e-3, abs=1e-4), name
        for i, grad in enumerate(grads):
            both = torch.from_numpy(sum(h[name][2][i] for h in halves) / 2)
            torch.testing.assert_close(both, torch.from_numpy(grad), rtol=1e-3, atol=1e-4, msg=name)
