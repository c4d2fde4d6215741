"""What the tests of objectives share: small settings and random views."""

import copy
from typing import Any

import torch
import torch.distributed as dist

from dirl.config import ObjectiveConfig
from dirl.encoders.base import EncoderOutput
from dirl.objectives.base import Teacher, TeacherObjective, load_objective
from dirl.prior.tokens import RegionTokens

WIDTH, BATCH, REGIONS = 12, 6, 2
SMALL = {
    "simclr": {"hidden_width": 16, "output_width": 8},
    "moco": {"hidden_width": 16, "output_width": 8},
    "byol": {"hidden_width": 16, "output_width": 8},
    "vicreg": {"hidden_width": 16, "output_width": 8},
    "dino": {"hidden_width": 16, "bottleneck_width": 8, "prototypes": 20},
    "dinov2": {"hidden_width": 16, "bottleneck_width": 8, "prototypes": 20},
}


def build(name, regions=REGIONS, seed=0, **settings):
    """Make a small objective, in the training mode."""
    kind: Any  # an objective; each is made of a width, its settings and a number of regions
    kind, config = load_objective(ObjectiveConfig(name=name, **SMALL[name], **settings))
    torch.manual_seed(seed)
    return kind(WIDTH, config, regions)


def teacher_of(objective, tokens, seed=1):
    """Make a teacher whose heads differ from the student's; None for objectives without one."""
    if not isinstance(objective, TeacherObjective):
        return None
    averaged = copy.deepcopy(objective)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in averaged.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return Teacher(tokens, averaged)


def global_terms(objective, student):
    """Match views; a teacher sees the first two."""
    teacher = teacher_of(objective, student[:2])
    return objective.global_terms(student) if teacher is None else objective.global_terms(student, teacher)


def views(count, seed=2, batch=BATCH, masked=False):
    """Random encoder outputs with four patch tokens."""
    torch.manual_seed(seed)
    return [
        EncoderOutput(
            cls=torch.randn(batch, WIDTH),
            patches=torch.randn(batch, 4, WIDTH),
            registers=torch.zeros(batch, 0, WIDTH),
            grid=(2, 2),
            masked=torch.rand(batch, 4) < 0.5 if masked else None,
        )
        for _ in range(count)
    ]


def regions(tokens, present):
    """Region tokens of one view."""
    return RegionTokens(tokens=tokens, present=present)


def on_rank(rank, port, function, results):
    """Be one of two processes; here and not in a conftest, whose name is not unique where it is unpickled."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    results[rank] = function(rank)
    dist.destroy_process_group()
