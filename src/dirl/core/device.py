"""The device to compute on, and its precision."""

from typing import Final, Literal, get_args

import torch

from dirl.core.errors import ConfigError

ForwardPrecision = Literal["fp32", "bf16"]
AskedPrecision = Literal["auto", ForwardPrecision]
FP32: Final = "fp32"
BF16: Final = "bf16"
USUAL = ("auto", "cpu", "cuda")


def choose_device(name: str) -> torch.device:
    """Return the device of this name. ``auto`` is a GPU if there is one, else the CPU."""
    if name in USUAL:
        return torch.device("cuda" if on_gpu(name) else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise _no_such_device(name) from error
    return device


def on_gpu(name: str) -> bool:
    """Whether ``auto``, ``cpu`` or ``cuda`` means the GPUs of this machine. Allocates nothing on them."""
    available = torch.cuda.is_available()
    if name not in USUAL or (name == "cuda" and not available):
        raise _no_such_device(name)
    return name != "cpu" and available


def choose_precision(name: AskedPrecision, device: torch.device) -> ForwardPrecision:
    """Return `FP32` or `BF16`. ``auto`` is bf16 on a GPU that supports it, else fp32.

    Most CPUs are slower in bf16 than in fp32.
    """
    if name not in get_args(AskedPrecision):
        remedy = f"there are: {', '.join(get_args(AskedPrecision))}"
        raise ConfigError("no such precision", where=f"precision {name}", remedy=remedy)
    if name != "auto":
        return name
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return BF16 if fast else FP32


def _no_such_device(name: str) -> ConfigError:
    remedy = "use auto or cpu; see `dirl doctor`"
    return ConfigError("no such device here", where=f"device {name}", remedy=remedy)
