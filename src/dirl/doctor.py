"""`dirl doctor`: what is installed, what devices there are, what is missing and how to get it."""

import shutil
import sys
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

import torch
from packaging.requirements import Requirement

import dirl
from dirl.core.callable_module import make_callable
from dirl.core.errors import ConfigError
from dirl.core.parallel import available_cores
from dirl.core.plugins import extras, names, resolve


class Availability(StrEnum):
    """Whether something is there: it may be ``missing`` and needed, or ``absent`` and optional."""

    OK = "ok"
    MISSING = "missing"
    ABSENT = "absent"


@dataclass(frozen=True)
class Component:
    """One thing that was looked at.

    Attributes
    ----------
    name
        What.
    detail
        What was found, or how to get it.
    availability
        Whether it is there.
    """

    name: str
    detail: str
    availability: Availability


def examine() -> list[Component]:
    """Look at this environment."""
    return [*_system(), *_packages(), *_extras(), *_devices(), *_plugins()]


def _system() -> list[Component]:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    return [
        Component("dirl", dirl.__version__, Availability.OK),
        Component("python", sys.version.split()[0], Availability.OK),
        Component("processors", str(available_cores()), Availability.OK),
        Component("disk", f"{free:.0f} GiB free here", _needed(free > 1)),
    ]


def _needed(there: bool) -> Availability:
    return Availability.OK if there else Availability.MISSING


def _packages() -> list[Component]:
    found = []
    for line in requires("dirl") or []:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        if requirement.name == "openslide-bin":  # its library may also come from conda or from the system
            continue
        detail, fits = _installed(requirement)
        remedy = "" if fits else f'{": " if detail else ""}pip install "{requirement}"'
        found.append(Component(requirement.name, detail + remedy, _needed(fits)))
    return [*found, _openslide()]


def _installed(requirement: Requirement) -> tuple[str, bool]:
    """Version of a package, and whether it is the one that is required; empty where it is not installed."""
    try:
        have = version(requirement.name)
    except PackageNotFoundError:
        return "", False
    fits = requirement.specifier.contains(have, prereleases=True)
    return have if fits else f"{have}, needs {requirement.specifier}", fits


def _extras() -> list[Component]:
    found = []
    for name, requirements in extras().items():
        states = {one.name: _installed(one) for one in requirements}
        fits = all(fits for _, fits in states.values())
        detail = ", ".join(f"{package} {have}" for package, (have, _) in states.items() if have)
        remedy = "" if fits else f"{': ' if detail else ''}pip install 'dirl[{name}]'"
        found.append(
            Component(f"extra {name}", detail + remedy, Availability.OK if fits else Availability.ABSENT)
        )
    return found


def _openslide() -> Component:
    try:
        import openslide
    except (ImportError, OSError) as error:
        return Component("OpenSlide library", f"{error}: pip install openslide-bin", Availability.MISSING)
    return Component("OpenSlide library", openslide.__library_version__, Availability.OK)


def _devices() -> list[Component]:
    if not torch.cuda.is_available():
        built = torch.version.cuda
        why = (
            "torch was built without CUDA"
            if built is None
            else f"torch for CUDA {built} finds no GPU or driver"
        )
        return [Component("GPU", f"none: {why}; everything runs on the CPU, slowly", Availability.ABSENT)]
    devices = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        detail = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
        devices.append(Component(f"GPU {index}", detail, Availability.OK))
    return devices


def _plugins() -> list[Component]:
    """Import every segmenter, objective, encoder and evaluator, and find the package that a network needs."""
    found = []
    own = [group for group in ("dirl.encoders", "dirl.evaluators") if names(group)]  # only of third parties
    for group in ("dirl.segmenters", "dirl.objectives", *own):
        absent: dict[str, list[str]] = {}
        importable = []
        for name in names(group):
            try:
                made = resolve(group, name)
            except ConfigError as error:
                absent.setdefault(f"{error.reason}: {error.remedy}", []).append(name)
                continue
            package = getattr(made, "package", None)  # of a network, which is imported only when it is used
            if package is not None and find_spec(package) is None:
                absent.setdefault(f"needs the package {package}: {made.install}", []).append(name)
            else:
                importable.append(name)
        kind = group.removeprefix("dirl.")
        found.append(Component(kind, ", ".join(importable), _needed(bool(importable))))
        found += [
            Component(kind, f"{', '.join(those)}: {why}", Availability.ABSENT)
            for why, those in absent.items()
        ]
    return found


make_callable(__name__, "dirl.doctor:examine")
