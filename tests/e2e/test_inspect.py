"""`feathertune inspect`: what is in the data, whatever it is."""

import csv
import json

import numpy as np
import pytest

from e2e.cli import SMALL, in_process, reviews, write_csv
from feathertune.data.sources.collector import ReadOptions
from feathertune.data.sources.samples import load_sample


def test_says_what_is_there_and_writes_nothing(encoder, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    result = in_process(monkeypatch, capsys, "inspect", data, "--base", encoder, "--max-length", "16")
    assert result.code == 0, result.stderr
    said = result.stdout.replace("\u202f", " ")
    for words in ("120 rows, 2 labels", "columns   text 'text', label 'label'", "50.0%", "--max-length", "truncated"):
        assert words in said
    assert "About 24 test rows" in said
    assert list(tmp_path.iterdir()) == []


def test_as_json(encoder, data, monkeypatch, capsys):
    result = in_process(monkeypatch, capsys, "inspect", data, "--base", encoder, "--max-length", "16", "--json")
    found = json.loads(result.stdout)
    assert found["classes"] == {"neg": 60, "pos": 60}
    assert list(found["lengths"]["cut"]) == ["16", "64", "128", "256", "512"]
    assert found["lengths"]["n"] == 120
    assert found["refused"] is None


def test_what_a_study_refuses_is_told_with_all_the_rest(encoder, tmp_path, monkeypatch, capsys):
    bad = write_csv(tmp_path / "bad.csv", [*reviews(60), ("", "pos"), (" ", "neg"), ("film", "")])
    result = in_process(monkeypatch, capsys, "inspect", bad, "--base", encoder, "--max-length", "16")
    assert result.code == 0, result.stderr
    assert "3 rows cannot be used" in result.stdout
    assert "2 with an empty text (bad.csv, row 61" in " ".join(result.stdout.split())
    assert "compare and train would refuse this data: 3 rows cannot be used." in result.stdout
    lenient = in_process(
        monkeypatch, capsys, "inspect", bad, "--base", encoder, "--max-length", "16", "--drop-invalid", "--json"
    )
    assert json.loads(lenient.stdout)["refused"] is None


def test_a_class_that_cannot_be_split(encoder, tmp_path, monkeypatch, capsys):
    rare = write_csv(tmp_path / "rare.csv", [*reviews(60), ("film", "odd")])
    result = in_process(monkeypatch, capsys, "inspect", rare, "--base", encoder, "--max-length", "16")
    assert result.code == 0, result.stderr
    assert "compare and train would refuse this data: " in result.stdout
    assert "'odd' (1)" in result.stdout
    refused = in_process(monkeypatch, capsys, "compare", rare, "--base", encoder, *SMALL, "--out", tmp_path / "o")
    assert refused.code == 2


def test_an_unknown_encoder(data, monkeypatch, capsys):
    result = in_process(monkeypatch, capsys, "inspect", data, "--base", "sample:minilmm")
    assert result.code == 2
    assert "'minilmm'" in result.stderr
    assert "'minilm'" in result.stderr
    assert result.stdout == ""


def test_bad_arguments(encoder, data, tmp_path, monkeypatch, capsys):
    for words, expected in (
        (["nowhere.csv"], "nowhere.csv does not exist"),
        ([data, "--text-column", "txt"], "Did you mean 'text'?"),
        ([data, "--max-length", "5000"], "reads at most"),
    ):
        result = in_process(monkeypatch, capsys, "inspect", *words, "--base", encoder)
        assert result.code == 2
        assert expected in result.stderr
        assert "Traceback" not in result.stderr
        assert result.stdout == ""


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Real reviews with faults in them: the CSV, and the rows of each fault, counted from 1."""
    dataset = load_sample("imdb", ReadOptions())
    picked = np.random.default_rng(5).permutation(len(dataset.texts))[:2400].tolist()
    rows = [
        [dataset.texts[row], dataset.labels[row], "test" if place >= 2000 else "train"]
        for place, row in enumerate(picked)
    ]
    other = {"positive": "negative", "negative": "positive"}
    flipped = sorted(np.random.default_rng(6).permutation(np.arange(100, 2000))[:38].tolist())
    for row in flipped:
        rows[row][1] = other[rows[row][1]]
    faults = {"flipped": [row + 1 for row in flipped]}

    def add(kind, row):
        rows.append(row)
        faults.setdefault(kind, []).append(len(rows))

    for row in range(20):
        add("duplicate", list(rows[row]))
    for row in range(20, 30):
        add("conflict", [rows[row][0], other[rows[row][1]], "train"])
    for row in range(2100, 2130):
        add("overlap", [rows[row][0], rows[row][1], "train"])
    for row in range(2200, 2210):
        words = rows[row][0].split()
        words[len(words) // 2] = "zzz"
        add("near-overlap", [" ".join(words), rows[row][1], "train"])
    add("unseen-label", ["An odd one, neither nor.", "neutral", "test"])
    add("mojibake", ["Un trÃ¨s bon film, je lâ€™ai adorÃ©.", "positive", "train"])
    add("unusable", ["", "positive", "train"])
    path = tmp_path_factory.mktemp("planted") / "reviews.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label", "split"), *rows])
    return path, faults


def found_rows(findings, kind):
    return [row["row"] for finding in findings if finding["kind"] == kind for row in finding["rows"]]


def test_planted_faults_are_found(planted, encoder, tmp_path, monkeypatch, capsys):
    data, faults = planted
    before = data.read_bytes()
    out, clean = tmp_path / "out", tmp_path / "clean.csv"
    words = ["inspect", data, "--base", encoder, "--max-length", "16", "--split-column", "split"]
    result = in_process(monkeypatch, capsys, *words, "--out", out, "--fix", clean, "--json")
    assert result.code == 0, result.stderr
    found = json.loads(result.stdout)
    # All that is exact, and nothing else.
    for kind in ("duplicate", "overlap", "unseen-label", "mojibake", "unusable"):
        assert sorted(found_rows(found["findings"], kind)) == faults[kind], kind
    assert sorted(found_rows(found["findings"], "conflict")) == sorted([*range(21, 31), *faults["conflict"]])
    near = found_rows(found["findings"], "near-overlap")
    assert {*near} <= {*faults["near-overlap"]}
    assert len(near) >= 9, "one word of a review is another one: nearly all of them"
    # Of the flipped labels more than half, among no more than 4 % of the rows.
    suspects = found_rows(found["findings"], "suspect-label")
    assert len(suspects) <= 0.04 * 2400 + 1
    assert len({*suspects} & {*faults["flipped"]}) > len(faults["flipped"]) / 2
    assert found["refused"] == "1 rows cannot be used."
    # The folder holds the same, and all rows.
    assert json.loads((out / "inspection.json").read_text(encoding="utf-8")).items() <= found.items()
    with (out / "findings.csv").open(encoding="utf-8", newline="") as file:
        listed = list(csv.DictReader(file))
    assert len(listed) == sum(finding["n"] for finding in found["findings"])
    assert [int(row["row"]) for row in listed if row["finding"] == "suspect-label"] == suspects
    assert b"<h1>" in (out / "inspection.html").read_bytes()
    # The copy: what is certain is done, and the original is unchanged.
    assert data.read_bytes() == before
    assert found["fixed"]["counts"]["removed: duplicate of a text and label"] == 20
    assert found["fixed"]["counts"]["removed: text is also in a later split"] == 30
    assert found["fixed"]["counts"]["removed: text has conflicting labels"] == 20
    again = in_process(
        monkeypatch,
        capsys,
        "inspect",
        clean,
        "--base",
        encoder,
        "--max-length",
        "16",
        "--split-column",
        "split",
        "--json",
    )
    kinds = {finding["kind"] for finding in json.loads(again.stdout)["findings"]}
    assert kinds.isdisjoint({"duplicate", "overlap", "conflict", "mojibake", "unusable"})
    assert kinds >= {"suspect-label", "near-overlap"}, "these need a person"


def test_what_is_done_is_said(encoder, tmp_path, monkeypatch, capsys):
    rows = reviews(60)
    data = write_csv(tmp_path / "d.csv", [*rows, rows[0], (rows[2][0], "pos"), ("cafÃ© film", "pos")])
    words = ["inspect", data, "--base", encoder, "--max-length", "16", "--out", tmp_path / "out"]
    result = in_process(monkeypatch, capsys, *words, "--fix", tmp_path / "clean.csv")
    assert result.code == 0, result.stderr
    said = " ".join(result.stdout.split())
    for expected in (
        "clean.csv: 60 of 63 rows; the original is unchanged",
        "1 rows: removed: duplicate of a text and label",
        "2 rows: removed: text has conflicting labels",
        "1 rows: text repaired",
        "clean.changes.csv",
        "inspection.html",
        "1 row repeating an earlier text and label.",
        "duplicate 1 61 like 1",
        "conflict 2 3 like 62, 62 like 3",
    ):
        assert expected in said, said
    for option, place in (("--out", "out"), ("--fix", "clean.csv")):
        base = ["inspect", data, "--base", encoder, "--max-length", "16", option, tmp_path / place]
        refused = in_process(monkeypatch, capsys, *base)
        assert refused.code == 2
        assert "--overwrite" in refused.stderr
        assert in_process(monkeypatch, capsys, *base, "--overwrite").code == 0


def test_a_strange_folder_and_the_source_are_left_alone(encoder, data, tmp_path, monkeypatch, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    for option, place, words in (
        ("--out", tmp_path / "mine", "was not written by feathertune"),
        ("--fix", data, "would replace the source"),
        ("--fix", tmp_path / "clean.parquet", "Expected .csv, like the source"),
    ):
        result = in_process(monkeypatch, capsys, "inspect", data, "--base", encoder, option, place, "--overwrite")
        assert result.code == 2
        assert words in result.stderr
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


def test_the_page_opens_quietly_and_shows_what_was_found(browser_page, encoder, tmp_path, monkeypatch, capsys):
    attack = '<img src=x onerror="window.hacked=1">'
    rows = [*reviews(60), (f"{attack} film", "pos"), (f"{attack} film", attack), (f"{attack} film", "pos")]
    data = write_csv(tmp_path / "d.csv", rows)
    out = tmp_path / "out"
    in_process(monkeypatch, capsys, "inspect", data, "--base", encoder, "--max-length", "16", "--out", out)
    page = browser_page.page
    for width in (1280, 375):
        page.set_viewport_size({"width": width, "height": 900})
        page.goto((out / "inspection.html").as_uri())
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        axe = pytest.importorskip("axe_playwright_python.base", reason="axe-playwright-python is not installed")
        page.evaluate(axe.AXE_FILE_PATH.read_text(encoding="utf-8"))
        found = page.evaluate("axe.run(document).then(r => r)")
        assert [one["id"] for one in found["violations"] if one["impact"] in ("serious", "critical")] == []
    assert browser_page.problems == []
    assert {*browser_page.requests} == {(out / "inspection.html").as_uri()}
    assert page.evaluate("window.hacked") is None
    assert page.locator("section#conflict tbody tr").count() == 3
    assert attack in page.locator("section#conflict").inner_text()
    assert "conflict" in page.locator("nav a").all_inner_texts()


def test_pairs_with_several_labels(encoder, tmp_path, monkeypatch, capsys):
    rows = [
        {"premise": f"the film {i}", "hypothesis": "it was good", "labels": (["a", "b"], ["b"], [], ["a"])[i % 4]}
        for i in range(80)
    ]
    rows += [rows[0], {**rows[1], "labels": ["a"]}, {**rows[2], "hypothesis": ""}]
    source = tmp_path / "both.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = ["--base", encoder, "--max-length", "24", "--json"]
    result = in_process(monkeypatch, capsys, "inspect", source, *given, "--fix", tmp_path / "clean.jsonl")
    assert result.code == 0, result.stderr
    found = json.loads(result.stdout)
    found = found.get("data", found)
    assert (found["columns"]["text"], found["columns"]["text_pair"]) == ("premise", "hypothesis")
    assert found["classes"] == {"a": 21, "a | b": 21, "b": 20, "(no label)": 20}
    assert (found["repeated"], found["contradicted"]) == (2, 1)
    clean = [json.loads(line) for line in (tmp_path / "clean.jsonl").read_text().splitlines()]
    assert len(clean) == 79, "a repeat, the two of a contradiction and an empty text are gone"
    assert all(row in rows for row in clean)
