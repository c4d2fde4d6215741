"""The device to compute on, and its precision."""

import torch

from dirl.core.errors import ConfigError

FP32, BF16 = "fp32", "bf16"
PRECISIONS = ("auto", FP32, BF16)
USUAL = ("auto", "cpu", "cuda")


def choose_device(name: str) -> torch.device:
    """Return the device of this name. ``auto`` is a GPU if there is one, else the CPU.

    Raises
    ------
    ConfigError
        If this machine has no such device.
    """
    if name in USUAL:
        return torch.device("cuda" if on_gpu(name) else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise _no_such_device(name) from error
    return device


def on_gpu(name: str) -> bool:
    """Whether ``auto``, ``cpu`` or ``cuda`` means the GPUs of this machine. Allocates nothing on them.

    Raises
    ------
    ConfigError
        If it is another name, or ``cuda`` on a machine without a GPU.
    """
    available = torch.cuda.is_available()
    if name not in USUAL or (name == "cuda" and not available):
        raise _no_such_device(name)
    return name != "cpu" and available


def choose_precision(name: str, device: torch.device) -> str:
    """Return `FP32` or `BF16`. ``auto`` is bf16 on a GPU that supports it, else fp32.

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


def _no_such_device(name: str) -> ConfigError:
    remedy = "use auto or cpu; see `dirl doctor`"
    return ConfigError("no such device here", where=f"device {name}", remedy=remedy)
