"""Self-supervised pretraining on H&E tissue with a cell prior, and an attention audit of any encoder.

Every command of ``dirl --help`` is also a function in `dirl.api`.
"""

from dirl.core.errors import DirlError

__all__ = ["DirlError", "__version__"]

__version__ = "0.1.0"
