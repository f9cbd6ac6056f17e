from __future__ import annotations

from pathlib import Path

from feathertune.config import load_config

ARTICLE = Path(__file__).parents[3] / "examples" / "article.yaml"


def test_the_article_holds_the_experiment():
    config = load_config(ARTICLE)
    assert config.data.source == "hub:stanfordnlp/imdb"
    assert config.data.max_length == 512
    assert config.one_base().id == "google-bert/bert-base-cased"
    assert config.study.methods == ("lora", "shira", "full")
    assert config.study.seeds == 1
    assert config.method == {"lora": {"r": 8}, "shira": {"density": 0.2}}
    assert config.train.epochs == 30


def test_the_command_line_wins_over_the_article():
    options = {"data.source": "sample:imdb", "base.id": "sample:minilm", "data.train_size": 2000}
    config = load_config(ARTICLE, options=options)
    assert (config.data.source, config.one_base().id) == ("sample:imdb", "sample:minilm")
    assert config.data.train_size == 2000
    assert config.method["shira"] == {"density": 0.2}
