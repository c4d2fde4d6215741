"""Extras: the optional packages of a distribution, and the command that installs them."""

from importlib.metadata import PackageNotFoundError, metadata, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

DEVELOPMENT = "dev"  # for work on dirl itself


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
