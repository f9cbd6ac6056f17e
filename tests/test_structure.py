"""The structure of the house: small packages, narrow functions, no import cycles, no branches on tasks or scores."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
PACKAGE = SOURCE / "feathertune"
FILES = sorted(PACKAGE.rglob("*.py"))
MAX_MODULES = 14
MAX_PARAMETERS = 8
# Values of `tasks` that nothing outside of it may compare with, look up by, or test for.
TASK_NAMES = {"single_label", "multi_label", "regression"}
SCORE_NAMES = {"accuracy", "balanced_accuracy", "macro_f1", "micro_f1", "mcc", "spearman"}
TASK_VALUES = {"SINGLE_LABEL", "MULTI_LABEL", "REGRESSION"}
SCORE_RECORDS = {"Metrics", "MultiLabelMetrics", "NumberMetrics"}
# The names of settings and scores are declared here.
DECLARATIONS = {"config/sections.py", "records/values.py"}


def _module(path: Path) -> str:
    return ".".join(path.with_suffix("").relative_to(SOURCE).parts).removesuffix(".__init__")


MODULES = {_module(path): path for path in FILES}


def _constants(node: ast.AST) -> set[object]:
    return {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def _names(node: ast.AST) -> set[str]:
    return {
        n.attr if isinstance(n, ast.Attribute) else n.id
        for n in ast.walk(node)
        if isinstance(n, ast.Attribute | ast.Name)
    }


def branches(source: str) -> Iterator[str]:
    """Places that decide by the name or type of a task or a score."""
    names: set[object] = {*TASK_NAMES, *SCORE_NAMES}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
            if any(_constants(part) & names for part in parts) or any(_names(part) & TASK_VALUES for part in parts):
                yield f"{node.lineno}: {ast.unparse(node)}"
        elif (
            isinstance(node, ast.Dict)
            and len({k.value for k in node.keys if isinstance(k, ast.Constant)} & TASK_NAMES) > 1
        ):
            yield f"{node.lineno}: a table by the name of a task"
        elif isinstance(node, ast.MatchValue) and _constants(node) & names:
            yield f"{node.lineno}: a case of a task or a score"
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) == "isinstance"
            and _names(node.args[1]) & SCORE_RECORDS
        ):
            yield f"{node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_outside_tasks_branches_on_a_task_or_a_score(path):
    place = path.relative_to(PACKAGE).as_posix()
    if place.startswith("tasks/") or place in DECLARATIONS:
        return
    assert list(branches(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "x = task == 'regression'",
        "if study.metric in ('spearman', 'mcc'): pass",
        "y = isinstance(scores, NumberMetrics)",
        "y = isinstance(scores, (records.Metrics, int))",
        "z = task is MULTI_LABEL",
        "t = {'single_label': 1, 'regression': 2}[task]",
        "match task:\n    case 'multi_label': pass",
    ],
)
def test_a_branch_is_seen(source):
    assert list(branches(source))


def test_packages_are_small():
    sizes = Counter(path.parent for path in FILES if path.name != "__init__.py")
    assert {str(folder.relative_to(SOURCE)): n for folder, n in sizes.items() if n > MAX_MODULES} == {}


def _wide_functions(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            args = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            n = sum(arg.arg not in ("self", "cls") for arg in args)
            if n > MAX_PARAMETERS:
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}: {node.name} takes {n}"


def _takes_options(path: Path) -> bool:
    """Commands take a parameter per option; scikit-learn's estimators take theirs in the constructor."""
    return path.parent in (PACKAGE / "cli", PACKAGE / "estimator")


def test_functions_take_few_parameters():
    assert [place for path in FILES if not _takes_options(path) for place in _wide_functions(path)] == []


def _imported(path: Path) -> set[str]:
    """Modules of feathertune that a file imports, at any depth, but not for type checkers alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    only_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in only_types:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                found.add(below if below in MODULES else node.module)
    return found & MODULES.keys() - {_module(path), "feathertune"}


def test_no_module_imports_itself_through_others():
    graph = {name: _imported(path) for name, path in MODULES.items() if name != "feathertune"}
    assert sum(map(len, graph.values())) > 100, "imports are seen"
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


def _sets_environment(node: ast.AST) -> bool:
    text = ast.unparse(node)
    return any(word in text for word in ("environ[", "environ.setdefault", "environ.update", "putenv")) and (
        isinstance(node, ast.Assign | ast.Expr | ast.AugAssign | ast.Delete)
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_environment_variable_is_set_at_import(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert [ast.unparse(node) for node in tree.body if _sets_environment(node)] == []


def test_setting_the_environment_is_seen():
    assert _sets_environment(ast.parse("os.environ.setdefault('A', '1')").body[0])
    assert not _sets_environment(ast.parse("x = os.environ.get('A')").body[0])


def test_the_unit_tests_mirror_the_source():
    """Each folder of `tests/unit` is a package of `src`, and a test file that bears a module's name lies with it."""
    unit = Path(__file__).parent / "unit"
    folders = {path.relative_to(PACKAGE) for path in PACKAGE.rglob("*") if path.is_dir()} | {Path(), Path("benchmarks")}
    strange = [
        str(path.relative_to(unit)) for path in unit.rglob("test_*.py") if path.parent.relative_to(unit) not in folders
    ]
    assert strange == []
