"""Prepare a study: read the data, load the base model, tokenise, list the runs."""

from __future__ import annotations

from feathertune.config import DataConfig
from feathertune.data.from_config import load_sources, split_sources
from feathertune.data.sources.collector import SPLITS, RawDataset, SplitName
from feathertune.data.splitting.splits import DataSplits
from feathertune.data.tokens.encode import EncodedTexts, encode
from feathertune.encoders import LoadedEncoder
from feathertune.engine.prefix_cache.store import ActivationCache
from feathertune.engine.training.regression_head import output_layer
from feathertune.records import BaseRecord
from feathertune.report.wording import Context, in_words
from feathertune.runtime import Runtime, stopwatch
from feathertune.study.observe import Observer
from feathertune.study.planning.resolve import Settled, decide_task, resolve
from feathertune.study.running.data_record import about_alike, about_labels, class_counts, data_record
from feathertune.study.running.workbench import Prepared, Pretrained, Workbench, check_max_length
from feathertune.study.verdict.verdict import explain_metric
from feathertune.tasks.losses import what_stays


def prepare_study(
    settled: Settled, runtime: Runtime, observer: Observer, *, data: RawDataset | None = None, seed: int | None = None
) -> Prepared:
    """Prepare a comparison, or with a `seed` a single training; without `data`, read what the settings name."""
    config = settled.config
    splits = read_splits(config.data, observer, data)
    counts = class_counts(splits)
    for sentence in about_alike(splits, counts):
        observer.said(sentence)
    task = decide_task(config, splits, counts.get("train", []))
    observer.stage(f"loading {config.base.id}")
    pretrained = Pretrained(config.base, splits.labels, task.name, config.engine, config.train.token_budget, runtime)
    encoder = load_checked(pretrained, config.data, splits)
    observer.stage("tokenising")
    encoded, seconds = _tokenise(splits, encoder, config.data)
    record = data_record(config.data, task.name, splits, encoded, counts)
    unmoved = what_stays(config.train, splits.validation.labels, splits.labels)
    context = Context(task, record)
    for sentence in (*(in_words(reason, context) for reason in explain_metric(task, record)), *unmoved):
        observer.said(sentence)
    bench = Workbench(
        runtime=runtime,
        splits=splits,
        data=record,
        base=_base_record(encoder),
        encoded=encoded,
        tokenize_seconds=seconds,
        notes=(*encoder.notes, *unmoved),
        pretrained=pretrained,
        activations=ActivationCache(
            config.engine, runtime, token_budget=config.train.token_budget, base_fingerprint=encoder.fingerprint
        ),
    )
    return Prepared(bench, resolve(settled, task, splits, encoder, observer, seed=seed))


def read_splits(config: DataConfig, observer: Observer, data: RawDataset | None = None) -> DataSplits:
    """Read and split the data that the settings name, or `data`, and tell the observer about its labels."""
    observer.stage(f"reading {config.source}")
    splits = split_sources(config, *(load_sources(config) if data is None else (data, None)))
    if len(splits.text_columns) == 2:
        observer.said(f"Each row is a pair of texts ({' and '.join(splits.text_columns)}), read together.")
    for sentence in about_labels(splits, config.task):
        observer.said(sentence)
    return splits


def load_checked(pretrained: Pretrained, config: DataConfig, splits: DataSplits) -> LoadedEncoder:
    """Load the base model; raise a `FeathertuneError` if it cannot read texts of this length, or be trained on them."""
    encoder = pretrained.load(seed=0)
    check_max_length(config, encoder)
    if splits.kind.numbers:
        output_layer(encoder)  # refuses a head that cannot be put into the labels' unit
    return encoder


def _tokenise(
    splits: DataSplits, encoder: LoadedEncoder, config: DataConfig
) -> tuple[dict[SplitName, EncodedTexts], dict[SplitName, float]]:
    encoded: dict[SplitName, EncodedTexts] = {}
    seconds: dict[SplitName, float] = {}
    for name in SPLITS:
        with stopwatch() as watch:
            encoded[name] = encode(
                encoder.tokenizer, splits[name].texts, max_length=config.max_length, reading=config.reading
            )
        seconds[name] = watch.seconds
    return encoded, seconds


def _base_record(encoder: LoadedEncoder) -> BaseRecord:
    return BaseRecord(
        id=encoder.id,
        revision=encoder.revision,
        fingerprint=encoder.fingerprint,
        tokenizer_fingerprint=encoder.tokenizer_fingerprint,
        model_type=encoder.spec.model_type,
        n_parameters=encoder.n_parameters,
        n_layers=encoder.n_layers,
        hidden_size=encoder.hidden_size,
        new_parameters=list(encoder.new_parameters),
    )
