"""Studies: a matrix of runs on several devices, with its table and figures. `dirl.study(...)` runs it."""

from dirl.core.callable_module import make_callable

make_callable(__name__, "dirl.study.run:study")
