"""Export of a run's encoder for timm, transformers and ONNX. `dirl.export(...)` runs it."""

from dirl.core.callable_module import make_callable

make_callable(__name__, "dirl.export.run:export")
