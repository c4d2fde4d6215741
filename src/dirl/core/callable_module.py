"""Packages that share their name with a command: `dirl.audit` is the package, and can be called."""

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any


class CallableModule(ModuleType):
    """A module that is called as the function ``_function``, ``module:name``, which is imported then."""

    _function: str

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        """The function; `help` and `inspect.signature` follow it."""
        module, _, name = self._function.partition(":")
        function: Callable[..., Any] = getattr(import_module(module), name)
        return function

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Call the function."""
        return self.__wrapped__(*args, **options)


def make_callable(module: str, function: str) -> None:
    """Let an imported module be called as the function ``module:name``, imported on the first call."""
    sys.modules[module].__class__ = CallableModule
    sys.modules[module].__dict__["_function"] = function
