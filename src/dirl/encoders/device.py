"""Which device to compute on, and how precisely."""

import torch

from dirl.core.errors import ConfigError

FP32, BF16 = "fp32", "bf16"
PRECISIONS = ("auto", FP32, BF16)


def choose_device(name: str) -> torch.device:
    """Return the device of this name; ``auto`` is a GPU where there is one.

    Raises
    ------
    ConfigError
        If there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError("no such device here", where=f"device {name}", remedy="use auto or cpu") from error
    return device


def choose_precision(name: str, device: torch.device) -> str:
    """Return `FP32` or `BF16`; ``auto`` is bf16 on a GPU that has it, and fp32 elsewhere.

    Most CPUs are slower in bf16 than in fp32.

    Raises
    ------
    ConfigError
        If there is no such precision.
    """
    if name not in PRECISIONS:
        remedy = f"there are: {', '.join(PRECISIONS)}"
        raise ConfigError("no such precision", where=f"precision {name}", remedy=remedy)
    if name != "auto":
        return name
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return BF16 if fast else FP32
