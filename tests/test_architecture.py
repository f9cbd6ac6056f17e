"""The shape of the house: imports go down only, nothing loads torch without need, files stay small.

Layers are listed here and in docs/architecture.md. A unit is a module or package right under `feathertune`;
units of one layer may import each other as long as there is no cycle.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
PACKAGE = "feathertune"
MAX_LINES = 400
LAYERS = (
    (
        "errors",
        "config",
        "gc_freeze",
        "input_files",
        "records",
        "output_folder",
        "registry",
        "storage",
        "training_hook",
    ),
    ("data", "encoders", "runtime", "statistics", "tasks"),
    ("baselines", "methods"),
    ("engine",),
    ("study", "bundle", "predictor", "export", "quality", "report", "track"),
    ("api", "estimator", "serve", "cli", "__main__"),
)
LAYER_OF = {unit: layer for layer, units in enumerate(LAYERS) for unit in units}
TOP = len(LAYERS) - 1
# Tighter than the layers: what the report may use (it draws without torch), and what the engine never asks.
REPORT_MAY_IMPORT = ("errors", "records", "storage", "report", "statistics", "tasks")
ENGINE_MUST_NOT_IMPORT = "methods"
# Modules that load without torch, as far as they exist.
WITHOUT_TORCH = (
    *LAYERS[0],
    *(f"tasks.{name}" for name in ("task", "metrics", "calibration", "thresholds")),
    "data.from_config",
    "data.reading.rows",
    *(f"data.sources.{name}" for name in ("registry", "samples", "files", "hub", "collector")),
    "data.splitting.splits",
    *(f"quality.{name}" for name in ("profile", "fix", "inspection")),
    "statistics.inference",
    *(f"study.verdict.{name}" for name in ("summary", "verdict")),
    "study.versus",
    "report",
    "report.comparison",
    "report.inspection",
    "report.study_result",
    "report.tables",
    "export",
    "track",
    "cli",
    "cli.output.comparison",
    "estimator",
    *(f"serve.{name}" for name in ("limits", "batcher", "schemas")),
)
FILES = sorted(path.relative_to(SOURCE) for path in (SOURCE / PACKAGE).rglob("*.py"))


def _module(path: Path) -> tuple[str, ...]:
    """Dotted name below the package, in parts: ``("study", "stats")``; empty for the package itself."""
    parts = path.with_suffix("").parts[1:]
    return parts[:-1] if parts and parts[-1] == "__init__" else parts


def _imports(path: Path, source: str) -> Iterator[tuple[int, str]]:
    """Line and target, below the package, of every import of feathertune's own, at any depth of the file."""
    package = (PACKAGE, *_module(path))
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            origin = ".".join([*start, *([node.module] if node.module else [])])
            targets = [f"{origin}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in targets:
            root, _, below = target.partition(".")
            if root == PACKAGE and below not in ("", "__version__"):
                yield node.lineno, below


def violations(path: Path, source: str) -> list[str]:
    """What a file does against the rules of the house."""
    unit = (_module(path) or ("",))[0]
    found = []
    if path.stem in ("utils", "common", "helpers", "misc"):
        found.append(f"{path}: a file is named after its concept")
    if source.count("\n") > MAX_LINES:
        found.append(f"{path}: longer than {MAX_LINES} lines")
    if unit and unit not in LAYER_OF:
        found.append(f"{path}: '{unit}' is in no layer; add it here and in docs/architecture.md")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            found.append(f"{path}:{node.lineno}: print")
    for line, target in _imports(path, source):
        where = f"{path}:{line}: imports {target}"
        to = target.partition(".")[0]
        if LAYER_OF.get(to, TOP + 1) > LAYER_OF.get(unit, TOP):
            found.append(f"{where}, which is above it")
        if unit == "engine" and to == ENGINE_MUST_NOT_IMPORT:
            found.append(f"{where}: the engine receives a prepared model")
        if unit == "report" and not any(f"{target}.".startswith(f"{name}.") for name in REPORT_MAY_IMPORT):
            found.append(f"{where}: the report reads records alone")
    return found


@pytest.mark.parametrize("path", FILES, ids=str)
def test_file_keeps_the_rules(path):
    assert violations(path, (SOURCE / path).read_text(encoding="utf-8")) == []


def test_units_import_each_other_without_a_cycle():
    graph: dict[str, set[str]] = {}
    for path in FILES:
        if unit := next(iter(_module(path)), None):
            targets = _imports(path, (SOURCE / path).read_text(encoding="utf-8"))
            graph.setdefault(unit, set()).update(target.partition(".")[0] for _, target in targets)
    try:
        TopologicalSorter({unit: targets - {unit} for unit, targets in graph.items()}).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize(
    ("path", "source", "message"),
    [
        ("errors.py", "from feathertune.study import plan", "above it"),
        ("errors.py", "import feathertune.api", "above it"),
        ("errors.py", "from feathertune import cli", "above it"),
        ("data/splits.py", "def f():\n    from feathertune.methods.families.lora import METHOD", "above it"),
        ("data/splits.py", "from ..engine import loop", "above it"),
        ("data/__init__.py", "from ..engine import loop", "above it"),
        ("errors.py", "from .api import compare", "above it"),
        (
            "methods/lora.py",
            "if TYPE_CHECKING:\n    from feathertune.engine.training.loop import StepInfo",
            "above it",
        ),
        ("errors.py", "from feathertune.unheard import x", "above it"),
        ("engine/loop.py", "from feathertune.methods import METHODS", "prepared model"),
        ("report/__init__.py", "from feathertune.study.verdict.verdict import judge", "records alone"),
        ("report/charts.py", "from feathertune.runtime import hardware", "records alone"),
        ("report/charts.py", "from feathertune import study", "records alone"),
        ("unheard.py", "", "in no layer"),
        ("data/utils.py", "", "named after its concept"),
        ("cli.py", "print('hello')", "print"),
        ("cli.py", "x = 1\n" * 401, "longer than"),
    ],
)
def test_each_rule_can_be_broken(path, source, message):
    assert any(message in line for line in violations(Path(PACKAGE, path), source))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("engine/loop.py", "from feathertune.data.tokens.batching import plan_batches"),
        ("engine/loop.py", "from .optim import schedule\nfrom ..errors import DataError"),
        ("study/runner.py", "from feathertune.bundle import save\nfrom feathertune import __version__"),
        (
            "report/__init__.py",
            "from feathertune.statistics.inference import wilson\nfrom feathertune.report import svg",
        ),
        ("__init__.py", "def __getattr__(name):\n    from feathertune import api"),
        ("cli.py", "import torch\nfrom feathertune.api import compare\nx = 1\n" + "x = 1\n" * 397),
    ],
)
def test_good_files_pass(path, source):
    assert violations(Path(PACKAGE, path), source) == []


def _loads(code: str, *modules: str) -> bool:
    """Whether a fresh interpreter has one of the modules after running the code."""
    start = f"import sys\nsys.path.insert(0, {str(SOURCE)!r})"
    script = f"{start}\n{code}\nsys.exit(7 if sys.modules.keys() & {set(modules)!r} else 0)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in (0, 7), done.stderr
    return done.returncode == 7


def test_the_check_for_torch_sees_torch():
    assert _loads("import types; sys.modules['torch'] = types.ModuleType('torch')", "torch")


def test_modules_load_without_torch():
    """One interpreter imports them in turn: the first that loads torch is named."""
    assert len(WITHOUT_TORCH) > 10
    script = (
        "import importlib, sys\n"
        f"sys.path.insert(0, {str(SOURCE)!r})\n"
        f"for module in {list(WITHOUT_TORCH)!r}:\n"
        f"    importlib.import_module('{PACKAGE}.' + module)\n"
        "    if 'torch' in sys.modules:\n"
        "        sys.exit(module)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_help_loads_neither_torch_nor_scikit_learn_nor_a_server():
    code = (
        "import runpy\n"
        f"sys.argv = [{PACKAGE!r}, '--help']\n"
        "try:\n"
        f"    runpy.run_module({PACKAGE!r}, run_name='__main__', alter_sys=True)\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
    )
    assert not _loads(code, "torch", "sklearn", "scipy.optimize", "fastapi", "uvicorn")
