"""An encoder by name. timm builds it, here from an architecture that this module registers."""

from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer

from dirl.encoders.known import KnownEncoder


@register_model
def example_vit(pretrained=False, **arguments):
    """Build the architecture. dirl loads the weights, so `pretrained` is not used."""
    shape = {"img_size": 64, "patch_size": 16, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 0}
    accepted = {name: value for name, value in arguments.items() if not name.startswith("pretrained_cfg")}
    accepted.pop("cache_dir", None)
    return VisionTransformer(**(shape | accepted))


TINY = KnownEncoder(
    name="tiny",
    hub="example/tiny",  # owner/name on the Hugging Face hub; `tiny,weights=FILE` needs no hub
    architecture="example_vit",
    arguments={"img_size": 64},
    mpp=(0.5,),
    licence="Apache-2.0",
    reference="an example, untrained",
    gated=False,
)
