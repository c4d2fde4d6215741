"""Objects by name: built-ins and plugins are both found by entry point."""

from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from dirl.core.errors import ConfigError
from dirl.core.extras import install


def names(group: str) -> list[str]:
    """Names declared under an entry-point group, sorted."""
    return sorted({point.name for point in entry_points(group=group)})


def resolve(group: str, spec: str) -> Any:
    """Return the object with the name `spec`.

    Parameters
    ----------
    group
        Entry-point group, for example ``dirl.segmenters``.
    spec
        A declared name, or ``package.module:attribute``.

    Raises
    ------
    ConfigError
        If there is no such name, or it cannot be imported. The message lists the available names.
    """
    kind = group.removeprefix("dirl.").removesuffix("s")
    if ":" in spec:
        module, _, attribute = spec.partition(":")
        try:
            return getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"cannot import it ({error})", where=f"{kind} {spec!r}") from error
    for point in entry_points(group=group):
        if point.name == spec:
            try:
                return point.load()
            except ImportError as error:
                raise ConfigError(
                    f"cannot import it ({error})", where=f"{kind} {spec!r}", remedy=_remedy(point, error)
                ) from error
    raise ConfigError(
        f"no such {kind}",
        where=repr(spec),
        remedy=f"there are: {', '.join(names(group)) or 'none'}; or package.module:attribute",
    )


def _remedy(point: EntryPoint, error: ImportError) -> str:
    owner = point.dist.name if point.dist is not None else "dirl"
    return install(error.name, owner) if error.name else f"install {owner} again"
