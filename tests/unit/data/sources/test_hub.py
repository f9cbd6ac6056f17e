"""Hub datasets, offline: the mapping of splits and labels, and a real hub cache read by `datasets`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import pytest

from feathertune.data.sources.collector import ReadOptions
from feathertune.data.sources.registry import load_source
from feathertune.errors import ConfigError, DataError, MissingExtraError

datasets = pytest.importorskip("datasets")

POLARITY = datasets.Features(
    {
        "text": datasets.Value("string"),
        "label": datasets.ClassLabel(names=["pos", "neg"]),
        "id": datasets.Value("int32"),
    }
)


def part(labels, features=POLARITY, text="text"):
    columns = {
        text: [f"text {i}" for i in range(len(labels))],
        "label": labels,
        "id": list(range(len(labels))),
    }
    return datasets.Dataset.from_dict(columns, features=features)


@pytest.fixture
def hub(monkeypatch):
    """Make `load_dataset` return what is set here; remembers what it was asked for."""

    class Hub(dict):
        asked = None

        def load_dataset(self, *args, **kwargs):
            self.asked = (args, kwargs)
            return datasets.DatasetDict(self)

    hub = Hub()
    monkeypatch.setattr(datasets, "load_dataset", hub.load_dataset)
    return hub


def test_splits_and_class_labels(hub):
    hub |= {"test": part([0]), "unsupervised": part([-1, -1]), "train": part([1, 0, 1]), "dev": part([0, 1])}
    data = load_source("hub:stanfordnlp/imdb")
    assert data.split == ["train"] * 3 + ["validation"] * 2 + ["test"]
    assert data.labels == ["neg", "pos", "neg", "pos", "neg", "pos"]
    assert data.texts[:3] == ["text 0", "text 1", "text 2"]
    assert data.label_order == ("pos", "neg")
    assert data.source == "hub:stanfordnlp/imdb"
    assert data.notes == ("The split unsupervised (2 rows) was left out.",)
    # Nothing that could run a dataset's own code is ever asked for.
    assert hub.asked == (("stanfordnlp/imdb", None), {})


def test_hidden_labels_are_left_out(hub):
    hub |= {"train": part([1, 0, -1]), "test": part([-1, -1])}
    data = load_source("hub:nyu-mll/glue:sst2")
    assert hub.asked == (("nyu-mll/glue", "sst2"), {})
    assert data.labels == ["neg", "pos"]
    assert data.split == ["train", "train"]
    assert data.notes == (
        "1 rows of the split train were left out: their label is hidden (-1).",
        "2 rows of the split test were left out: their label is hidden (-1).",
    )


def test_minus_one_is_a_label_where_no_class_label_says_otherwise(hub):
    features = POLARITY | {"label": datasets.Value("int64")}
    hub["train"] = part([-1, 0, 1], datasets.Features(features))
    data = load_source("hub:x")
    assert data.labels == ["-1", "0", "1"]
    assert (data.label_order, data.notes) == (None, ())


def test_rows_and_columns_that_cannot_be_used(hub):
    hub["train"] = part([0, 1])
    assert load_source("hub:x", ReadOptions(text_column="TEXT", label_column="id")).labels == ["0", "1"]
    with pytest.raises(DataError, match=r"hub:x has no column 'txt'\. Did you mean 'text'"):
        load_source("hub:x", ReadOptions(text_column="txt"))
    with pytest.raises(ConfigError, match="already has splits"):
        load_source("hub:x", ReadOptions(split_column="id"))
    hub["train"] = part([0, None])
    with pytest.raises(DataError, match=r"1 without a label \(hub:x, train row 2\)"):
        load_source("hub:x")
    del hub["train"]
    hub["all"] = part([0])
    with pytest.raises(DataError, match=r"hub:x has the splits all\. Expected train"):
        load_source("hub:x")


def test_without_a_name_or_the_package(monkeypatch):
    with pytest.raises(DataError, match="Expected hub:NAME"):
        load_source("hub:")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match="hub:x needs the extra 'hub'"):
        load_source("hub:x")


def offline(tmp_path, code):
    environment = os.environ | {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    return subprocess.check_output(
        [sys.executable, "-c", textwrap.dedent(code)], env=environment, text=True, stderr=subprocess.PIPE
    )


def test_offline_without_a_cache(tmp_path):
    message = offline(
        tmp_path,
        """
        from feathertune.data.sources.registry import load_source
        from feathertune.errors import DataError
        try:
            load_source("hub:stanfordnlp/imdb")
        except DataError as error:
            print(error)
    """,
    )
    assert "hub:stanfordnlp/imdb cannot be loaded: Couldn't reach 'stanfordnlp/imdb'" in message
    assert "Check the name" in message
    assert "only datasets in the hub cache can be read" in message
    assert "use a local file" in message


def test_offline_from_the_cache(tmp_path):
    folder = tmp_path / "hf" / "datasets" / "someone___tiny" / "default" / "0.0.0" / "0123456789abcdef"
    folder.mkdir(parents=True)
    splits = {}
    for name, labels in {"train": [1, 0, 1, 0], "test": [0, 1]}.items():
        rows = part(labels)
        with datasets.arrow_writer.ArrowWriter(features=POLARITY, path=str(folder / f"tiny-{name}.arrow")) as writer:
            writer.write_table(rows.data.table)
            writer.finalize()
        splits[name] = datasets.SplitInfo(name, num_examples=len(labels), dataset_name="tiny")
    info = datasets.DatasetInfo(
        features=POLARITY,
        splits=datasets.SplitDict(splits),
        config_name="default",
        dataset_name="tiny",
        version="0.0.0",
    )
    info.write_to_directory(str(folder))
    found = json.loads(
        offline(
            tmp_path,
            """
        import json
        from feathertune.data.sources.registry import load_source
        data = load_source("hub:someone/tiny")
        print(json.dumps([data.labels, data.split, data.label_order]))
    """,
        )
    )
    assert found == [["neg", "pos", "neg", "pos", "pos", "neg"], ["train"] * 4 + ["test"] * 2, ["pos", "neg"]]
