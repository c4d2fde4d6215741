"""Print the lowest versions that `pyproject.toml` allows, one requirement a line, for `make test-lowest`.

torch and torchvision are left to pip: their oldest releases need a Python or a CUDA that few machines have,
and the two must fit. The tools of `dev` are left to pip, too; an extra's library that the tests use is not.
"""

import tomllib
from pathlib import Path

AS_THEY_COME = {"torch", "torchvision"}
EXTRAS = ("geojson",)

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
optional = project["optional-dependencies"]
for requirement in [*project["dependencies"], *(line for extra in EXTRAS for line in optional[extra])]:
    name, _, lowest = requirement.partition(">=")
    print(requirement if name in AS_THEY_COME else f"{name}=={lowest}")
