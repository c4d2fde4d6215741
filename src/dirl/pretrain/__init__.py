"""Pretraining: the order of tiles, one step, callbacks, logs, and a run. `dirl.pretrain(...)` runs it."""

from dirl.core.callable_module import make_callable

make_callable(__name__, "dirl.pretrain.run:pretrain")
