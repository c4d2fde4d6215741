"""The device to compute on."""

import torch

from dirl.core.errors import ConfigError

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


def _no_such_device(name: str) -> ConfigError:
    remedy = "use auto or cpu; see `dirl doctor`"
    return ConfigError("no such device here", where=f"device {name}", remedy=remedy)
