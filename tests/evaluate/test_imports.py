"""What an evaluation does not import, since it does not need it and the import takes seconds."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("room", "module"), [("compare", "torch"), ("probe", "torch"), ("finetune", "lightly")]
)
def test_an_evaluation_does_not_import_what_it_does_not_need(room: str, module: str) -> None:
    code = f"import sys, dirl.evaluate.{room}.run, dirl.evaluate.{room}.show"
    subprocess.run(
        [sys.executable, "-c", f"{code}; assert {module!r} not in sys.modules"], check=True, timeout=120
    )
