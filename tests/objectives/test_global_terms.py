"""The global term of every objective against its formula written out, and over two ranks."""

import math

import pytest
import torch
import torch.nn.functional as F

from dirl.encoders.base import EncoderOutput
from tests.known import known
from tests.objective_cases import BATCH, SMALL, build, global_terms, teacher_of, views

OBJECTIVES = sorted(SMALL)


def projections(objective, student):
    """Student's and teacher's rows of the class tokens; batch norm sees all views at once."""
    v = len(student)
    head = torch.nn.Sequential(objective.projector, objective.predictor)
    mine = head(torch.cat([view.cls for view in student])).chunk(v)
    teacher = teacher_of(objective, student[:2])
    if teacher is None:
        return mine, None
    return mine, teacher.objective.projector(torch.cat([t.cls for t in teacher.tokens])).chunk(2)


def nt_xent(a, b, temperature):
    rows = F.normalize(torch.cat([a, b]), dim=1)
    m = len(a)
    total: torch.Tensor | float = 0.0
    for i in range(2 * m):
        similar = torch.exp(rows @ rows[i] / temperature)
        total = total - torch.log(similar[(i + m) % (2 * m)] / (similar.sum() - similar[i]))
    return total / (2 * m)


def test_simclr_is_nt_xent():
    student = views(2)
    (a, b), _ = projections(build("simclr"), student)
    torch.testing.assert_close(global_terms(build("simclr"), student)["global"], nt_xent(a, b, 0.2))


def test_moco_is_info_nce_with_the_teachers_keys():
    student = views(2)
    mine, aims = projections(build("moco"), student)
    total: torch.Tensor | float = 0.0
    for s, t in ((0, 1), (1, 0)):
        q, k = F.normalize(mine[s], dim=1), F.normalize(aims[t], dim=1)
        for i in range(BATCH):
            similar = torch.exp(k @ q[i] / 0.2)
            total = total - 2 * 0.2 * torch.log(similar[i] / similar.sum()) / (2 * BATCH)
    torch.testing.assert_close(global_terms(build("moco"), student)["global"], total)


def test_byol_is_the_negative_cosine_of_the_other_view():
    student = views(2)
    mine, aims = projections(build("byol"), student)
    cosine = sum(
        (F.normalize(mine[s], dim=1) * F.normalize(aims[1 - s], dim=1)).sum(1).mean() for s in range(2)
    )
    torch.testing.assert_close(global_terms(build("byol"), student)["global"], -cosine / 2)


def test_vicreg_is_its_three_terms():
    student = views(2)
    (a, b), _ = projections(build("vicreg"), student)
    expected = 25 * (a - b).square().mean()
    for z in (a, b):
        expected = expected + 25 * torch.relu(1 - torch.sqrt(z.var(dim=0) + 1e-4)).mean() / 2
        covariance = torch.cov(z.T)
        off = covariance - torch.diag(covariance.diagonal())
        expected = expected + off.square().sum() / z.shape[1]
    torch.testing.assert_close(global_terms(build("vicreg"), student)["global"], expected)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_dino_is_the_cross_entropy_with_the_teachers_global_views(batch_norm):
    student = views(4)
    objective = build("dino", batch_norm=batch_norm)
    objective.begin_step(1.0)
    mine, aims = projections(objective, student)
    pairs = [
        -(F.softmax(aims[t] / 0.07, 1) * F.log_softmax(mine[s] / 0.1, 1)).sum(1).mean()
        for t in range(2)
        for s in range(4)
        if s != t
    ]
    torch.testing.assert_close(global_terms(objective, student)["global"], torch.stack(pairs).mean())
    assert objective.loss.center.abs().sum() > 0


def test_the_teachers_temperature_warms_up():
    config = build("dino", temperature_warmup_share=0.5).config
    assert [config.temperature_at(done) for done in (0, 0.25, 0.5, 1)] == pytest.approx(
        [0.04, 0.055, 0.07, 0.07]
    )


def test_dinov2_is_dino_by_sinkhorn_ibot_and_koleo():
    student = views(3, masked=True)
    student[2] = EncoderOutput(**{**vars(student[2]), "masked": None})
    objective = build("dinov2")
    mine, aims = projections(objective, student)
    found = global_terms(objective, student)

    target = sinkhorn_by_hand(torch.cat(aims), 0.04).chunk(2)
    pairs = [
        -(target[t] * F.log_softmax(mine[s] / 0.1, 1)).sum(1).mean()
        for t in range(2)
        for s in range(3)
        if s != t
    ]
    torch.testing.assert_close(found["global"], torch.stack(pairs).mean(), rtol=1e-4, atol=1e-5)

    teacher = teacher_of(objective, student[:2])
    masks = torch.cat([view.masked for view in student[:2]])
    patches = torch.cat([view.patches for view in student[:2]])
    logits = objective.patch_projector(patches[masks])
    target = sinkhorn_by_hand(teacher.objective.patch_projector(patches[masks]), 0.04)
    rows = -(target * F.log_softmax(logits / 0.1, 1)).sum(1)
    image = torch.arange(len(masks))[:, None].expand_as(masks)[masks]
    means = [rows[image == i].mean() for i in image.unique()]
    expected = torch.stack(means).sum() / len(masks)  # all views count, also those without a mask
    torch.testing.assert_close(found["ibot"], expected, rtol=1e-4, atol=1e-5)

    koleo = []
    for view in student[:2]:
        unit = F.normalize(view.cls, dim=1)
        apart = torch.cdist(unit, unit) + 9 * torch.eye(BATCH)
        koleo.append(-sum(math.log(distance) for distance in apart.amin(dim=1).tolist()) / BATCH)
    assert found["koleo"].item() == pytest.approx(0.1 * sum(koleo), rel=1e-4)


def sinkhorn_by_hand(logits, temperature):
    """Alternate: every prototype the same mass, every row the same mass."""
    plan = torch.exp(logits.double() / temperature)
    for _ in range(3):
        plan = plan / plan.sum(0, keepdim=True) / plan.shape[1]
        plan = plan / plan.sum(1, keepdim=True) / plan.shape[0]
    return (plan * plan.shape[0]).float()


def test_sinkhorn_is_lightlys_when_all_are_present_and_absent_rows_take_no_part():
    from lightly.loss.swav_loss import sinkhorn as theirs

    from dirl.objectives.losses import sinkhorn

    logits = torch.randn(7, 2, 20)
    every = torch.ones(7, 2, dtype=torch.bool)
    for r in range(2):
        torch.testing.assert_close(sinkhorn(logits, every, 0.1)[:, r], theirs(logits[:, r], 3, 0.1))
    present = every.clone()
    present[4, 1] = False
    wild = logits.clone()
    wild[4, 1] = 1e6
    found = sinkhorn(wild, present, 0.1)
    torch.testing.assert_close(found[present[:, 1], 1], theirs(logits[present[:, 1], 1], 3, 0.1))
    assert (found[4, 1] == 0).all()


def test_a_batch_without_any_mask_trains_on():
    student = [EncoderOutput(**{**vars(v), "masked": torch.zeros(BATCH, 4).bool()}) for v in views(2)]
    objective = build("dinov2")
    loss = sum(global_terms(objective, student).values())
    loss.backward()
    assert torch.isfinite(loss)
    trained = [p for p in objective.patch_projector.parameters() if p.requires_grad]
    assert all(p.grad is not None and (p.grad == 0).all() for p in trained)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_symmetric_in_the_views_and_in_the_order_of_tiles(name):
    student = views(2, masked=name == "dinov2")
    loss = sum(global_terms(build(name), student).values())
    torch.testing.assert_close(sum(global_terms(build(name), student[::-1]).values()), loss)
    order = torch.randperm(BATCH)
    turned = [
        EncoderOutput(
            v.cls[order],
            v.patches[order],
            v.registers,
            v.grid,
            masked=None if v.masked is None else v.masked[order],
        )
        for v in student
    ]
    torch.testing.assert_close(sum(global_terms(build(name), turned).values()), loss)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_vanilla_makes_no_head_for_regions(name):
    assert not any("dense" in key for key in build(name, regions=0).state_dict())


def _value(name, mine, **settings):
    objective = build(name, **settings)
    scale = torch.ones((), requires_grad=True)
    student = [
        EncoderOutput(
            v.cls[mine] * scale,
            v.patches[mine] * scale,
            v.registers,
            v.grid,
            masked=None if v.masked is None else v.masked[mine],
        )
        for v in views(2, masked=name == "dinov2")
    ]
    loss = sum(global_terms(objective, student).values())
    loss.backward()
    grads = [p.grad.numpy() for p in objective.parameters() if p.grad is not None]
    return loss.item(), known(scale.grad).item(), grads


CASES: dict[str, tuple[str, dict[str, object]]] = {name: (name, {}) for name in OBJECTIVES} | {
    "dino, batch norm": ("dino", {"batch_norm": True})
}


def _halves(rank):
    return {
        case: _value(name, slice(rank * 3, rank * 3 + 3), **settings)
        for case, (name, settings) in CASES.items()
    }


def test_the_mean_over_ranks_is_the_value_of_the_whole_batch(on_two_ranks):
    halves = on_two_ranks(_halves)
    for case, (name, settings) in CASES.items():
        loss, scale, grads = _value(name, slice(None), **settings)
        assert sum(h[case][0] for h in halves) / 2 == pytest.approx(loss, rel=1e-4, abs=1e-5), case
        assert sum(h[case][1] for h in halves) / 2 == pytest.approx(scale, rel=1e-3, abs=1e-4), case
        for i, grad in enumerate(grads):
            both = torch.from_numpy(sum(h[case][2][i] for h in halves) / 2)
            torch.testing.assert_close(both, torch.from_numpy(grad), rtol=1e-3, atol=1e-4, msg=case)
