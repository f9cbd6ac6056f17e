"""The page of two studies: names of scores keep their capitals."""

import pytest

from feathertune.report.comparison import draw_comparison
from feathertune.study.versus import compare_studies
from study_factory import METHODS, write_study


@pytest.mark.parametrize(
    ("metric", "title"), [("mcc", "MCC"), ("macro_f1", "Macro F1"), ("balanced_accuracy", "Balanced accuracy")]
)
def test_the_metric_heads_columns_and_chart(metric, title, tmp_path):
    for seed, name in enumerate(("a", "b")):
        write_study(tmp_path / name, methods=METHODS[-2:], n_test=60, metric=metric, seed=seed)
    page = draw_comparison(compare_studies(tmp_path / "a", tmp_path / "b")).decode()
    for head in (f">{title} A</th>", f">{title} B</th>", f"<h3>{title} with"):
        assert head in page
    assert f"{title} on the test rows" in page, "the chart as a screen reader says it"
