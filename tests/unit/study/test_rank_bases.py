import json

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

import feathertune
from e2e.cli import reviews, write_csv
from feathertune.errors import ConfigError
from tiny import save_tiny_encoder

N_ROWS = 120


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """A random encoder, one that cannot tell words apart, and a folder that is no model."""
    folder = tmp_path_factory.mktemp("bases")
    whole = save_tiny_encoder(folder / "whole", "bert")
    blind = save_tiny_encoder(folder / "blind", "bert")
    weights = load_file(blind / "model.safetensors")
    for name in weights:
        if name.endswith("word_embeddings.weight"):
            weights[name] = weights[name][:1].repeat(len(weights[name]), 1)
    save_file(weights, blind / "model.safetensors", metadata={"format": "pt"})
    (folder / "nothing").mkdir()
    return {"whole": str(whole), "blind": str(blind), "nothing": str(folder / "nothing")}


def one_label(folder):
    return {"data.source": str(write_csv(folder / "rows.csv", reviews(400)))}


def several_labels(folder):
    rows = [(text, label if index % 3 else f"{label}|odd") for index, (text, label) in enumerate(reviews(400))]
    return {"data.source": str(write_csv(folder / "rows.csv", rows)), "data.label_separator": "|"}


def numbers(folder):
    rng = np.random.default_rng(0)
    rows = [(text, f"{(label == 'pos') + 0.1 * rng.normal():.3f}") for text, label in reviews(400)]
    return {"data.source": str(write_csv(folder / "rows.csv", rows))}


def settings(options, **more):
    return feathertune.load_config(options={**options, "data.max_length": 16, "engine.dtype": "fp32", **more})


@pytest.mark.parametrize("kind", [one_label, several_labels, numbers])
def test_the_base_that_knows_more_is_first(bases, kind, tmp_path):
    ranking = feathertune.rank_bases(settings(kind(tmp_path)), [*bases.values()], rows=N_ROWS)
    assert [row.base for row in ranking.bases] == [bases["whole"], bases["blind"], bases["nothing"]]
    whole, blind, nothing = ranking.bases
    assert ranking.n_rows == N_ROWS
    assert whole.low < whole.score < whole.high
    assert whole.behind == 0
    assert blind.behind == pytest.approx(whole.score - blind.score)
    assert 0 < blind.behind_low < blind.behind < blind.behind_high
    assert ranking.tied == [whole]
    assert ranking.failed == [nothing]
    assert "config.json" in nothing.error
    assert nothing.score is None
    assert whole.unread == 0
    assert 0 < whole.seconds_per_1000 < 1000 * whole.seconds


def test_the_same_base_twice_is_tied_and_texts_in_windows_are_read(bases, tmp_path):
    options = one_label(tmp_path)
    again = save_tiny_encoder(tmp_path / "again", "bert")
    ranking = feathertune.rank_bases(
        settings(options, **{"data.max_length": 6, "data.long": "windows"}), [bases["whole"], str(again)], rows=N_ROWS
    )
    first, second = ranking.bases
    assert first.score == second.score
    assert ranking.tied == [first, second]
    short = feathertune.rank_bases(settings(options, **{"data.max_length": 6}), [bases["whole"]], rows=N_ROWS)
    assert short.bases[0].unread > first.unread


def test_a_text_length_beyond_a_bases_positions_is_its_error_alone(bases, tmp_path):
    long = save_tiny_encoder(tmp_path / "long", "bert", max_position_embeddings=200)
    ranking = feathertune.rank_bases(
        settings(one_label(tmp_path), **{"data.max_length": 128}), [bases["whole"], str(long)], rows=N_ROWS
    )
    assert [row.base for row in ranking.bases] == [str(long), bases["whole"]]
    assert "--max-length is 128" in ranking.failed[0].error


def test_no_test_or_validation_row_is_read(bases, tmp_path):
    """Test labels are turned around: the ranking stays the same."""
    scores = []
    for turned in (False, True):
        test = [(text, {"pos": "neg", "neg": "pos"}[label] if turned else label) for text, label in reviews(60, seed=1)]
        options = one_label(tmp_path) | {"data.test": str(write_csv(tmp_path / "test.csv", test))}
        scores.append(feathertune.rank_bases(settings(options), [bases["whole"]], rows=N_ROWS).bases[0].score)
    assert scores[0] == scores[1]


@pytest.mark.parametrize("given", [[], ["a", "a"]])
def test_bases_differ(given, tmp_path):
    with pytest.raises(ConfigError, match="--base"):
        feathertune.rank_bases(settings(one_label(tmp_path)), given)


def test_a_ranking_is_json(bases, tmp_path):
    ranking = feathertune.rank_bases(settings(one_label(tmp_path)), [bases["whole"]], rows=N_ROWS)
    assert json.loads(ranking.model_dump_json())["bases"][0]["base"] == bases["whole"]
