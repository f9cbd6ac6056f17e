"""Notebooks: what a kernel shows of a study and of its progress, and the examples, which run as they stand."""

from pathlib import Path

import pytest

from study_factory import write_study
from tiny import needs_sample_encoder

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.ipynb"))
BAR = """
import contextlib
from feathertune.cli.output.progress import NotebookBar
from feathertune.study.run_spec import RunSpec

with contextlib.closing(NotebookBar()) as bar:
    bar.planned({"lora-s0": 2.0}, [])
    bar.started(RunSpec(id="lora-s0", method="lora", kind="peft", seed=0))
    bar.advanced(1.0, "epoch 1")
    bar.said("lora-s0: done")
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a notebook in an empty folder, and return the outputs of its cells with code."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / ".jupyter"))

    def execute(notebook):
        client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
        client.execute()
        return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]

    return execute


def shown(outputs, kind):
    """Everything of a MIME type that the outputs show."""
    return "\n".join(output.data[kind] for output in outputs if kind in output.get("data", {}))


def test_a_kernel_shows_a_study_its_chart_and_its_progress(run, tmp_path):
    study = write_study(tmp_path / "study", n_test=20)
    cells = [
        "from feathertune.report.study_result import Study\nstudy = Study.load('study')\nstudy",
        "study.plot()",
        BAR,
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    table, chart, progress = run(notebook)
    assert all(f">{row.method}<" in shown(table, "text/html") for row in study.summary)
    assert shown(table, "text/plain").startswith("<Study of ")
    assert shown(chart, "image/svg+xml").startswith("<svg ")
    assert len(progress) == 1, "one output, drawn in place"
    assert shown(progress, "text/html").count("lora-s0") == 1
    assert "lora-s0: done" in shown(progress, "text/plain")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_whole_and_names_nobodys_machine(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.cells[0].cell_type == "markdown"
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in notebook.cells:
        if cell.cell_type == "code":
            compile(cell.source, path.name, "exec")
            assert all(output.output_type != "error" for output in cell.outputs)
            assert all(output.get("name") != "stderr" for output in cell.outputs), "no warnings"
    content = path.read_text(encoding="utf-8")
    assert "/home/" not in content
    assert "/root/" not in content
    assert str(ROOT) not in content


@pytest.mark.slow
@pytest.mark.timeout(900)
@needs_sample_encoder
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_runs(path, run):
    html = shown([output for outputs in run(nbformat.read(path, as_version=4)) for output in outputs], "text/html")
    assert "95% CI" in html, "the verdict"
    assert "lora-s0: accuracy" in html, "progress"
