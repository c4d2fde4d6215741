"""lightly's training loops (examples/pytorch/{simclr,byol,dino}.py) around a timm ViT, and the same in dirl.

As in the examples: lightly's transforms and data set (PIL), heads of their sizes, one forward pass a view.
Differences: the backbone, AdamW, and autocast if dirl uses it.
"""

import copy
from pathlib import Path
from typing import Any

import torch
from lightly.data import LightlyDataset
from lightly.loss import DINOLoss, NegativeCosineSimilarity, NTXentLoss
from lightly.models.modules import (
    BYOLPredictionHead,
    BYOLProjectionHead,
    DINOProjectionHead,
    MaskedVisionTransformerTIMM,
    SimCLRProjectionHead,
)
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.transforms import (
    BYOLTransform,
    BYOLView1Transform,
    BYOLView2Transform,
    DINOTransform,
    SimCLRTransform,
)
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler
from training import Place

from dirl.config import PretrainRecipe, ViewsConfig
from dirl.encoders.vit import model_args, new_plain_vit

MOMENTUM = 0.99


class SimCLR(nn.Module):
    """Its loss is of two views."""

    def __init__(self, backbone: nn.Module, width: int) -> None:
        super().__init__()
        self.backbone, self.head = backbone, SimCLRProjectionHead(width, 512, 128)
        self.criterion = NTXentLoss()

    @staticmethod
    def transform(views: ViewsConfig) -> Any:
        """Make the transform of lightly's that gives views of these sizes."""
        return SimCLRTransform(input_size=views.size_px)

    def before(self) -> None:
        """There is no teacher to move."""

    def forward(self, views: list[Tensor]) -> Tensor:
        """Return the loss."""
        first, second = (self.head(self.backbone(view)) for view in views)
        return self.criterion(first, second)


class BYOL(nn.Module):
    """Its loss is of two views, both ways."""

    def __init__(self, backbone: nn.Module, width: int) -> None:
        super().__init__()
        self.student = nn.Sequential(backbone, BYOLProjectionHead(width, 1024, 256))
        self.predictor = BYOLPredictionHead(256, 1024, 256)
        self.teacher = copy.deepcopy(self.student)
        deactivate_requires_grad(self.teacher)
        self.criterion = NegativeCosineSimilarity()

    @staticmethod
    def transform(views: ViewsConfig) -> Any:
        """Make the transform of lightly's that gives views of these sizes."""
        first, second = BYOLView1Transform, BYOLView2Transform
        return BYOLTransform(first(input_size=views.size_px), second(input_size=views.size_px))

    def before(self) -> None:
        """Move the teacher."""
        update_momentum(self.student, self.teacher, m=MOMENTUM)

    def forward(self, views: list[Tensor]) -> Tensor:
        """Return the loss."""
        predicted = [self.predictor(self.student(view)) for view in views]
        aims = [self.teacher(view).detach() for view in views]
        return 0.5 * (self.criterion(predicted[0], aims[1]) + self.criterion(predicted[1], aims[0]))


class DINO(nn.Module):
    """Its loss is of two global views and the local ones."""

    def __init__(self, backbone: nn.Module, width: int) -> None:
        super().__init__()
        other = copy.deepcopy(backbone)
        self.student = nn.Sequential(backbone, DINOProjectionHead(width, 512, 64, 2048))
        self.teacher = nn.Sequential(other, DINOProjectionHead(width, 512, 64, 2048))
        deactivate_requires_grad(self.teacher)
        self.criterion = DINOLoss(output_dim=2048)

    @staticmethod
    def transform(views: ViewsConfig) -> Any:
        """Make the transform of lightly's that gives views of these sizes."""
        return DINOTransform(
            global_crop_size=views.size_px,
            local_crop_size=views.local_size_px,
            n_local_views=views.local_count,
        )

    def before(self) -> None:
        """Move the teacher."""
        update_momentum(self.student, self.teacher, m=MOMENTUM)

    def forward(self, views: list[Tensor]) -> Tensor:
        """Return the loss."""
        aims = [self.teacher(view) for view in views[:2]]
        return self.criterion(aims, [self.student(view) for view in views], epoch=0)


def _like(area: float, jitter: tuple[float, float, float, float], **others: Any) -> dict[str, Any]:
    """Make the views that have the ranges of a transform of lightly's."""
    names = ("brightness_jitter", "contrast_jitter", "saturation_jitter", "hue_jitter")
    crops = {"crop_area": (area, 1.0), "crop_aspect": (3 / 4, 4 / 3), "rotation": "none"}
    return crops | dict(zip(names, jitter, strict=True)) | {"blur_sigma_px": (0.1, 2.0)} | others


# Of each method: its class above, the settings of our objective of that name, and our views.
METHODS: dict[str, tuple[type[Any], dict[str, Any], dict[str, Any]]] = {
    "simclr": (SimCLR, {"hidden_width": 512}, _like(0.08, (0.8, 0.8, 0.8, 0.2))),
    "byol": (
        BYOL,
        {"hidden_width": 1024, "momentum": MOMENTUM},
        _like(0.08, (0.4, 0.4, 0.2, 0.1), p_blur=(1.0, 0.1), p_solarise=(0.0, 0.2)),
    ),
    "dino": (
        DINO,
        {
            "hidden_width": 512,
            "bottleneck_width": 64,
            "prototypes": 2048,
            "momentum": MOMENTUM,
            "freeze_last_layer_share": 0.0,
        },
        _like(
            0.4,
            (0.4, 0.4, 0.2, 0.1),
            local_count=6,
            local_crop_area=(0.05, 0.4),
            p_blur=(1.0, 0.1, 0.5),
            p_solarise=(0.0, 0.2, 0.0),
        ),
    ),
}


class Lightlys:
    """A loop of lightly's with the recipe's encoder; a call trains ``place.steps`` steps."""

    def __init__(self, recipe: PretrainRecipe, flat: Path, place: Place) -> None:
        kind = METHODS[recipe.objective.name][0]
        vit: Any = new_plain_vit(recipe.encoder.name, model_args(recipe.encoder, recipe.views.size_px))
        self.model = kind(MaskedVisionTransformerTIMM(vit=vit), vit.embed_dim).to(place.device)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(trained, lr=recipe.optimiser.lr)
        self.place = place
        dataset = LightlyDataset(str(flat), transform=kind.transform(recipe.views))
        sampler = RandomSampler(dataset, replacement=True, num_samples=recipe.batch * place.steps)
        self.loader = DataLoader(
            dataset,
            batch_size=recipe.batch,
            sampler=sampler,
            drop_last=True,
            num_workers=place.workers,
            persistent_workers=place.workers > 0,
        )

    def __call__(self) -> None:
        """Train a turn."""
        total = torch.zeros((), device=self.place.device)
        for views, _, _ in self.loader:
            self.model.before()
            there = [view.to(self.place.device) for view in views]
            with self.place.autocast():
                loss = self.model(there)
            total += loss.detach()
            loss.backward()
            self.optimiser.step()
            self.optimiser.zero_grad()
        self.place.wait()
