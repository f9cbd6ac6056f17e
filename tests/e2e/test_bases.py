"""``feathertune bases``: the table, the JSON, and the exit code with a base that cannot be used."""

import json

from e2e.cli import in_process, reviews, write_csv

SMALL = ("--max-length", "16", "--set", "engine.dtype=fp32", "--rows", "60")


def test_bases(encoder, tmp_path, monkeypatch, capsys):
    data = write_csv(tmp_path / "reviews.csv", reviews(200))
    result = in_process(monkeypatch, capsys, "bases", data, "--base", f"{encoder}, {tmp_path}", *SMALL)
    assert result.code == 1, result.stderr
    assert f"Take {encoder}" in result.stdout
    assert f"failed: {tmp_path}" in " ".join(result.stdout.split())
    found = in_process(monkeypatch, capsys, "bases", data, "--base", encoder, *SMALL, "--json")
    assert found.code == 0
    assert found.stderr == ""
    ranking = json.loads(found.stdout)
    assert [row["base"] for row in ranking["bases"]] == [str(encoder)]
    assert ranking["n_rows"] == 60


def test_a_base_given_twice_is_refused(encoder, tmp_path, monkeypatch, capsys):
    data = write_csv(tmp_path / "reviews.csv", reviews(200))
    assert in_process(monkeypatch, capsys, "bases", data, "--base", f"{encoder},{encoder}", *SMALL).code == 2
