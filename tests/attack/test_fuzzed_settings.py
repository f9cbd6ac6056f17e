"""Settings of any bytes are a configuration or one sentence."""

import random
import time

import pytest

from feathertune.config import load_config
from feathertune.errors import FeathertuneError
from feathertune.methods import choose_methods

PIECES = [
    *("data:", "train:", "study:", "engine:", "base:", "method:", "runner:", "source: x.csv", "epochs: 3", "seeds: 2"),
    *(
        "methods: [lora, full]",
        "learning_rate: 1e-4",
        "top_layers: auto",
        "&a",
        "*a",
        "<<: *a",
        "- ",
        "? ",
        "!!python/object",
    ),
    *(
        "{",
        "}",
        "[",
        "]",
        "'",
        '"',
        "|",
        ">",
        "\n",
        "  ",
        "\t",
        "\0",
        "\x1b",
        "é",
        "\ud800",
        "#",
        "%YAML 1.1",
        "---",
        "...",
    ),
    *(
        "1e999",
        ".nan",
        "-.inf",
        "0x" + "f" * 40,
        "9" * 400,
        "2001-99-99",
        "12:30:45",
        "null",
        "~",
        "true",
        "!!binary x",
    ),
    *("lora:r=0", "lora:r=1e9,", "lora:lora_alpha=nan", "full:read=mean", "lora:target_modules=[a,b]", "x" * 2_000),
]
VALID = load_config().to_yaml()


def texts(n, seed):
    """Mutations of the default settings, and words of YAML in any order."""
    rng = random.Random(seed)
    for _ in range(n):
        if rng.random() < 0.5:
            text = VALID
            for _ in range(rng.randint(1, 4)):
                at = rng.randrange(len(text))
                text = text[:at] + rng.choice(PIECES) + text[at + rng.choice((0, 0, 1, 5, 40)) :]
        else:
            text = rng.choice(("", " ", "\n")).join(rng.choice(PIECES) for _ in range(rng.randint(1, 30)))
        yield text


@pytest.mark.parametrize(
    "seed",
    [
        0,
        *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 11)),
    ],
)
def test_any_text_is_settings_or_one_sentence(tmp_path, seed):
    path, taken = tmp_path / "config.yaml", 0
    for text in texts(150 if seed == 0 else 1_000, seed):
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        start = time.monotonic()
        for given in ({"path": path}, {"assignments": [text]}, {"assignments": [f"train.epochs={text}"]}):
            try:
                config = load_config(**given)
                choose_methods(config.study.methods, config.method, learning_rate=None)
                load_config(assignments=[], options={"data.source": config.to_yaml()})
                taken += 1
            except FeathertuneError:
                pass
        assert time.monotonic() - start < 10, text
    assert taken > 0


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a]\nc: [*b, *b, *b, *b, *b, *b]\n",
        "data: &d\n  source: *d\n",
        "[" * 100_000,
        "x: " * 50_000,
        "data: {source: " + "[" * 500 + "]" * 500 + "}",
        "train: {learning_rate: .nan}",
        "study: {margin: .inf}",
        "train: {epochs: 99999999999999999999999999}",
        "data: {source: 2001-99-99}",
        "? [a]\n: b\n",
    ],
)
def test_settings_that_grow_hold_themselves_or_are_no_numbers(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(FeathertuneError):
        load_config(path)
