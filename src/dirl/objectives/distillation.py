"""Shared by DINO and DINOv2: the student predicts its teacher's distribution over prototypes."""

import warnings

from lightly.models.modules.heads import DINOProjectionHead
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from dirl.config import Count, Positive, Settings, Share
from dirl.objectives.base import TeacherObjective
from dirl.objectives.losses import cross_entropy


class DistillationConfig(Settings):
    """Sizes of the head, temperatures and the teacher's momentum.

    The teacher's temperature rises linearly from ``teacher_temperature_start`` over the first
    ``temperature_warmup_share`` of the run. The last layer is frozen for the first
    ``freeze_last_layer_share`` of it.
    """

    hidden_width: Count = 2048
    bottleneck_width: Count = 256
    prototypes: Count = 65536
    student_temperature: Positive = 0.1
    teacher_temperature_start: Positive = 0.04
    teacher_temperature: Positive = 0.07
    temperature_warmup_share: Share = 0.3
    freeze_last_layer_share: Share = 0.01
    momentum: Share = 0.992

    def temperature_at(self, done: float) -> float:
        """Return the teacher's temperature when the share `done` of the run is done."""
        risen = min(1.0, done / self.temperature_warmup_share) if self.temperature_warmup_share else 1.0
        start = self.teacher_temperature_start
        return start + risen * (self.teacher_temperature - start)


def prototype_head(width: int, config: DistillationConfig, batch_norm: bool = False) -> nn.Module:
    """Make lightly's DINO head, with a weight norm that can be copied to a teacher."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, message=".*weight_norm.*")
        head = DINOProjectionHead(
            width,
            config.hidden_width,
            config.bottleneck_width,
            config.prototypes,
            batch_norm=batch_norm,
            norm_last_layer=True,
        )
        nn.utils.remove_weight_norm(head.last_layer)
    # lightly's older weight norm keeps a tensor that cannot be deep-copied.
    parametrizations.weight_norm(head.last_layer)
    magnitude = head.last_layer.parametrizations.weight.original0
    nn.init.ones_(magnitude).requires_grad_(False)
    made: nn.Module = head
    return made


class DistillationObjective(TeacherObjective):
    """A teacher objective over prototypes; a subclass sets `config` and the first `temperature`."""

    config: DistillationConfig
    temperature: float

    def begin_step(self, done: float) -> None:
        """Raise the teacher's temperature."""
        self.temperature = self.config.temperature_at(done)

    def before_update(self, done: float) -> None:
        """Drop the gradients of all prototypes at the beginning of the run."""
        if done < self.config.freeze_last_layer_share:
            for name, parameter in self.named_parameters():
                if "last_layer" in name:
                    parameter.grad = None

    def region_losses(self, student: Tensor, target: Tensor, present: Tensor) -> Tensor:
        """Return the cross-entropy of the student's regions."""
        return cross_entropy(target, student, self.config.student_temperature)
