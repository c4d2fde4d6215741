"""The precision of forward passes. Settings name it, so torch is imported only to choose it."""

from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    import torch

ForwardPrecision = Literal["fp32", "bf16"]
AskedPrecision = Literal["auto", ForwardPrecision]
FP32: Final = "fp32"
BF16: Final = "bf16"


def choose_precision(name: AskedPrecision, device: "torch.device") -> ForwardPrecision:
    """Return `FP32` or `BF16`. ``auto`` is bf16 if the GPU or the CPU has it in hardware, else fp32.

    Other CPUs are slower in bf16 than in fp32.
    """
    import torch

    if name != "auto":
        return name
    if device.type == "cuda":
        return BF16 if torch.cuda.is_bf16_supported(including_emulation=False) else FP32
    return BF16 if device.type == "cpu" and cpu_has_bf16() else FP32


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies matrices of bf16 in hardware: AVX-512 BF16, or AMX."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
