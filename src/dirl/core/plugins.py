"""Objects by name, built-in or of a plugin, and the command that installs what they need."""

import difflib
from importlib import import_module
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, metadata, requires
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dirl.core.errors import ConfigError

DEVELOPMENT = "dev"  # the extra for work on dirl itself


def names(group: str) -> list[str]:
    """Names declared under an entry-point group, sorted."""
    return sorted({point.name for point in entry_points(group=group)})


def resolve(group: str, spec: str) -> Any:
    """Return the object with a declared name, or ``package.module:attribute``, from an entry-point group.

    A `ConfigError` tells that there is no such name, with a list of names, or that it cannot be imported.
    """
    kind = group.removeprefix("dirl.").removesuffix("s")
    if ":" in spec:
        module, _, attribute = spec.partition(":")
        try:
            return getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            close = difflib.get_close_matches(module, names(group), n=1)
            remedy = f"did you mean {close[0]}:{attribute}?" if close else _there_are(group)
            raise ConfigError(
                f"cannot import it ({error})", where=f"{kind} {spec!r}", remedy=remedy
            ) from error
    for point in entry_points(group=group):
        if point.name == spec:
            try:
                return point.load()
            except ImportError as error:
                raise ConfigError(
                    f"cannot import it ({error})", where=f"{kind} {spec!r}", remedy=_remedy(point, error)
                ) from error
    raise ConfigError(f"no such {kind}", where=repr(spec), remedy=_there_are(group))


def _there_are(group: str) -> str:
    return f"there are: {', '.join(names(group)) or 'none'}; or package.module:attribute"


def _remedy(point: EntryPoint, error: ImportError) -> str:
    owner = point.dist.name if point.dist is not None else "dirl"
    return install(error.name, owner) if error.name else f"install {owner} again"


def extras(distribution: str = "dirl") -> dict[str, list[Requirement]]:
    """List the extras of a distribution with what each installs, without that for development."""
    try:
        names = metadata(distribution).get_all("Provides-Extra") or []
    except PackageNotFoundError:
        return {}
    optional = [
        requirement
        for requirement in map(Requirement, requires(distribution) or [])
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})
    ]
    return {
        name: [one for one in optional if one.marker is not None and one.marker.evaluate({"extra": name})]
        for name in sorted(names)
        if name != DEVELOPMENT
    }


def install(module: str, distribution: str = "dirl") -> str:
    """Command that installs a module that a distribution needs."""
    package = canonicalize_name(module.partition(".")[0])
    for name, requirements in extras(distribution).items():
        if package in [canonicalize_name(one.name) for one in requirements]:
            return f"pip install '{distribution}[{name}]'"
    return f"pip install the package of the module {module}"
