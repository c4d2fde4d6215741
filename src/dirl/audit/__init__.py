"""The attention audit: measures, controls, gate, verdict and figures. `dirl.audit(...)` runs it."""

from dirl.core.callable_module import make_callable

make_callable(__name__, "dirl.audit.run:audit")
