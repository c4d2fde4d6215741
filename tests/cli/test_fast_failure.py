"""A wrong argument is reported before anything heavy is imported."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import json, sys
from dirl.cli.main import main
sys.argv = ["dirl", *sys.argv[1:]]
try:
    main()
except SystemExit as left:
    heavy = {"torch", "lightning", "lightly", "matplotlib", "scipy", "sklearn", "skimage", "timm", "pyarrow"}
    print(json.dumps([left.code, sorted(heavy & set(sys.modules))]))
"""


@pytest.mark.parametrize(
    "line",
    [
        "pretrain demo --set stepz=1 --store S --out O",
        "pretrain nosuchrecipe --store S --out O",
        "pretrain demo --store S --out O",
        "study nosuchstudy --store S --out O",
        "compare A B --out O",
        "audit timm:a --store S --out O",
        "embed nosuch:form --slides . --out O",
        "map nosuch:form . --out O",
        "probe . --labels missing.csv --out O",
        "mil . --labels missing.csv --out O",
        "robust timm:a --store S --labels label --out O",
        "finetune timm:a --store S --labels label --out O",
        "tile missing.svs --out O",
        "export missing --to timm --out O",
        "mil . --labels . --out O --folds 1",
    ],
)
def test_a_wrong_argument_fails_before_heavy_imports(line: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE, *line.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert json.loads(done.stdout) == [2, []], done.stderr


@pytest.mark.parametrize("module", ["dirl.audit.run", "dirl.features.embed", "dirl.maps.run"])
def test_commands_that_do_not_train_import_no_training_library(module: str) -> None:
    code = f"import sys, {module}; print(*({{'lightning', 'lightly'}} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout.split() == []
