"""Prepare a study: read the data, load each base model in turn, tokenise, list the runs."""

from __future__ import annotations

from dataclasses import replace

from feathertune.config import DataConfig
from feathertune.data.from_config import load_sources, split_sources
from feathertune.data.sources.collector import SPLITS, RawDataset, SplitName
from feathertune.data.splitting.splits import DataSplits
from feathertune.data.tokens.encode import EncodedTexts, encode
from feathertune.encoders import LoadedEncoder
from feathertune.engine.fast_path import fitting_runtime
from feathertune.engine.prefix_cache.store import ActivationCache
from feathertune.engine.training.regression_head import output_layer
from feathertune.report.context import Context
from feathertune.report.wording import in_words
from feathertune.runtime import Runtime, stopwatch
from feathertune.study.observe import Observer
from feathertune.study.planning.method_sizing import Fit, fit_methods, join_fits
from feathertune.study.planning.resolve import Settled, decide_task, resolve
from feathertune.study.running.data_record import about_alike, about_labels, base_record, class_counts, data_record
from feathertune.study.running.workbench import Prepared, Pretrained, Workbench, check_max_length
from feathertune.study.verdict.verdict import explain_metric
from feathertune.tasks.losses import what_stays


def prepare_study(
    settled: Settled, runtime: Runtime, observer: Observer, *, data: RawDataset | None = None, seed: int | None = None
) -> Prepared:
    """Prepare a study, or a single training if `seed` is given; without `data`, read the configured source."""
    config = settled.config
    splits = read_splits(config.data, observer, data)
    counts = class_counts(splits)
    for sentence in about_alike(splits, counts):
        observer.said(sentence)
    task = decide_task(config, splits, counts.get("train", []))
    record = data_record(config.data, task.name, splits, counts)
    unmoved = what_stays(config.train, splits.validation.labels, splits.labels)
    context = Context(task, record)
    for sentence in (*(in_words(reason, context) for reason in explain_metric(task, record)), *unmoved):
        observer.said(sentence)
    benches: dict[str | None, Workbench] = {}
    fits: list[Fit] = []
    for name, base in zip(config.base_names, config.base, strict=True):
        observer.stage(f"loading {base.id}")
        pretrained = Pretrained(base, splits.labels, task.name, config.engine, config.train.token_budget, runtime)
        encoder, pretrained = load_checked(pretrained, config.data, splits)
        fitting = pretrained.runtime
        observer.stage("tokenising")
        encoded, seconds = _tokenise(splits, encoder, config.data)
        benches[name] = Workbench(
            runtime=fitting,
            splits=splits,
            data=record,
            base=base_record(encoder, name or base.stem, encoded),
            encoded=encoded,
            tokenize_seconds=seconds,
            notes=(*encoder.notes, *unmoved),
            pretrained=pretrained,
            activations=ActivationCache(
                config.engine, fitting, token_budget=config.train.token_budget, base_fingerprint=encoder.fingerprint
            ),
        )
        fits.append(fit_methods(config, settled.methods, encoder, observer, base=name))
        del encoder  # before the next one is loaded
    bases = [bench.base for bench in benches.values()]
    study = resolve(settled, task, splits, join_fits(config, fits), bases, seed=seed)
    return Prepared(next(iter(benches.values())), study, benches)


def read_splits(config: DataConfig, observer: Observer, data: RawDataset | None = None) -> DataSplits:
    """Read and split `data` or the configured source, and report its labels to the observer."""
    observer.stage(f"reading {config.source}")
    splits = split_sources(config, *(load_sources(config) if data is None else (data, None)))
    if len(splits.text_columns) == 2:
        observer.said(f"Each row is a pair of texts ({' and '.join(splits.text_columns)}), encoded together.")
    for sentence in about_labels(splits, config.task):
        observer.said(sentence)
    return splits


def load_checked(pretrained: Pretrained, config: DataConfig, splits: DataSplits) -> tuple[LoadedEncoder, Pretrained]:
    """Load the base model; raise a `FeathertuneError` if it does not support the text length or the labels.

    If it cannot be trained in bf16, its runtime is fp32 and a note is added.
    """
    encoder = pretrained.load(seed=0)
    check_max_length(config, encoder)
    if splits.kind.numbers:
        output_layer(encoder)  # rejects a head that cannot be rescaled to the labels' unit
    runtime, note = fitting_runtime(encoder, pretrained.engine, pretrained.runtime)
    count = encoder.tokenizer.num_special_tokens_to_add
    if len(splits.text_columns) == 2 and count(pair=True) <= count(pair=False):
        note = (*note, f"{encoder.id} reads a pair as one text: its tokenizer puts no separator between the two.")
    return replace(encoder, notes=encoder.notes + note), replace(pretrained, runtime=runtime)


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
