"""The precision of forward passes. Settings name it, so torch is imported only to choose it."""

from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    import torch

ForwardPrecision = Literal["fp32", "bf16"]
AskedPrecision = Literal["auto", ForwardPrecision]
FP32: Final = "fp32"
BF16: Final = "bf16"


def choose_precision(name: AskedPrecision, device: "torch.device") -> ForwardPrecision:
    """Return `FP32` or `BF16`. ``auto`` is bf16 on a GPU that supports it, else fp32.

    Most CPUs are slower in bf16 than in fp32.
    """
    import torch

    if name != "auto":
        return name
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return BF16 if fast else FP32
