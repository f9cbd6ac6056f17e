import pytest
import yaml

from feathertune.config import Config, load_config
from feathertune.errors import ConfigError


def test_later_settings_win(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text("base: some/encoder\ntrain: {epochs: 7, learning_rate: 1e-3}\ndata: {source: a.csv}\n")
    config = load_config(
        file,
        assignments=["train.epochs=8", "method.lora.r=4"],
        options={"data.source": "b.csv", "data.train_size": None},
        defaults={"data": {"train_size": 1000}, "train": {"patience": 9}},
    )
    assert config.one_base().id == "some/encoder"
    assert config.train.learning_rate == 1e-3  # YAML 1.1 alone would read a string
    assert (config.train.epochs, config.train.patience) == (8, 9)
    assert (config.data.source, config.data.train_size) == ("b.csv", 1000)
    assert config.method == {"lora": {"r": 4}}


def test_what_is_written_runs_again(tmp_path):
    config = load_config(assignments=["train.learning_rate=2e-5", "method.lora.r=4", "data.test_size=0.25"])
    file = tmp_path / "config.yaml"
    file.write_text(config.to_yaml())
    assert load_config(file) == config
    assert set(yaml.safe_load(config.to_yaml())["train"]) == set(Config().train.model_dump())


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("train.epoch=3", "Unknown setting 'train.epoch'. Did you mean 'epochs'?"),
        ("tran.epochs=3", "Unknown setting 'tran'. Did you mean 'train'?"),
        ("base.idd=x", "Did you mean 'id'?"),
        ("train.epochs=many", "Setting 'train.epochs' is 'many'"),
        ("train.epochs=0", "greater than or equal to 1"),
        ("data.train_size=1", "greater than or equal to 2"),
        ("engine.dtype=fp16", "'fp32' or 'bf16'"),
        ("train.epochs", "has no '='"),
        ("train.epochs=[", "not valid YAML"),
    ],
)
def test_wrong_settings_say_what_is_right(assignment, expected):
    with pytest.raises(ConfigError) as error:
        load_config(assignments=[assignment])
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"- a\n- b\n", "is a list. Expected the keys data, base"),
        (b"a: [", "not valid YAML"),
        (b"\xff\xfe\x00", "not valid YAML"),
        (b"", None),
    ],
)
def test_wrong_files(tmp_path, content, expected):
    file = tmp_path / "study.yaml"
    file.write_bytes(content)
    if expected is None:
        assert load_config(file) == Config()
        return
    with pytest.raises(ConfigError) as error:
        load_config(file)
    assert expected in str(error.value)
    assert str(file) in str(error.value)


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_config(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("value", "expected"), [("off", None), ("null", None), ("false", None), ("0", 0.0), ("1e1", 10.0), ("2.5", 2.5)]
)
def test_checkpoints_now_and_then_always_or_never(value, expected):
    assert load_config(assignments=[f"train.checkpoint_every_s={value}"]).train.checkpoint_every_s == expected


@pytest.mark.parametrize("value", ["on", "-1", ".inf", ".nan", "often"])
def test_other_words_for_it_are_refused(value):
    with pytest.raises(ConfigError, match=r"Setting 'train\.checkpoint_every_s' is"):
        load_config(assignments=[f"train.checkpoint_every_s={value}"])


@pytest.mark.parametrize(
    ("base", "names"),
    [
        ("sample:minilm", (None,)),
        ({"id": "some/encoder", "revision": "main"}, (None,)),
        (["some/encoder"], (None,)),
        (["sample:minilm", {"id": "some/encoder"}], ("minilm", "encoder")),
        (["some/encoder", "other/encoder/", "e 1.5"], ("encoder", "encoder-2", "e-1.5")),
        ([{"id": "a", "revision": "x"}, {"id": "a", "revision": "y"}], ("a", "a-2")),
    ],
)
def test_one_or_several_bases(base, names, tmp_path):
    config = load_config(options={"base": base})
    assert config.base_names == names
    file = tmp_path / "config.yaml"
    file.write_text(config.to_yaml())
    assert load_config(file) == config
    assert isinstance(yaml.safe_load(config.to_yaml())["base"], list if len(names) > 1 else dict)


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        (["a", "a"], "a is listed twice"),
        ([], "at least 1"),
        (["a", {"idd": "b"}], "Unknown setting 'base.idd'. Did you mean 'id'?"),
    ],
)
def test_bases_that_cannot_be(base, expected):
    with pytest.raises(ConfigError) as error:
        load_config(options={"base": base})
    assert expected in str(error.value)


def test_one_base_is_refused_if_there_are_several():
    with pytest.raises(ConfigError, match="2 base models were given"):
        load_config(options={"base": ["a", "b"]}).one_base()
    file_wins_not = load_config(options={"base.id": "b"}, defaults={"base": ["a", "c"]})
    assert file_wins_not.one_base().id == "b"
