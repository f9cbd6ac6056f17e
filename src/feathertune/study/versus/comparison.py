"""Two studies side by side: in what they differ, and what each method of both gives.

A difference is tested only where both were tested on the same rows and are ranked by the same score; else each score
stands alone with its interval.
Whatever differs beside the results is named with every difference that is claimed. Not for methods of one study: they
were compared when it was made (`feathertune.study.verdict.summary`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from feathertune.errors import ConfigError
from feathertune.records import TRAINED_KINDS, StudyRecord, load_study
from feathertune.report.comparison import Comparison, Differing, MethodPair, Paired, Side
from feathertune.report.format import units
from feathertune.report.side_files import read_test_fingerprint
from feathertune.study.versus.differing import find_differing, read_settings
from feathertune.study.versus.pairing import UNREADABLE, pair_methods, tested
from feathertune.tasks import SCORES, task_of_study
from feathertune.tasks.formats import ScoreFormat

_ALPHA = 0.05
# Causes that are named one by one in a sentence; the table names all.
_NAMED = 8


def compare_studies(first: Path, second: Path) -> Comparison:
    """Compare two study folders.

    Args:
        first: A, what is compared with.
        second: B; differences are B minus A.

    Raises:
        DataError: If one of them is no study.
        ConfigError: If both are the same folder.
    """
    if first.resolve() == second.resolve():
        raise ConfigError(f"{first} and {second} are the same study. Expected two.")
    a, b = load_study(first), load_study(second)
    settings = (read_settings(first), read_settings(second))
    differing = find_differing(a, b, settings=settings)
    rows = [read_test_fingerprint(folder, study.data.labels) for folder, study in ((first, a), (second, b))]
    same = None if None in rows else rows[0] == rows[1]
    methods = pair_methods(a, b, differing)
    scores = (task_of_study(a).primary.title, task_of_study(b).primary.title)
    if same and scores[0] == scores[1]:
        methods = tested(methods, (a, first), (b, second))
    else:
        why = (
            "other score"
            if scores[0] != scores[1]
            else "test rows cannot be read"
            if same is None
            else "other test rows"
        )
        methods = [m.model_copy(update={"untested": why}) if m.a and m.b else m for m in methods]
    return Comparison(
        a=_side(a, first),
        b=_side(b, second),
        same_test_rows=same,
        differing=differing,
        methods=methods,
        verdict=_verdict(methods, same, scores=scores, n_test=b.data.n_test),
        notes=_notes((a, b), methods, differing, without_settings=None in settings),
    )


def _side(study: StudyRecord, folder: Path) -> Side:
    return Side(
        folder=str(folder),
        created=study.created,
        status=study.status,
        base=study.base.id,
        source=study.data.source,
        n_train=study.data.n_train,
        n_test=study.data.n_test,
        runs_complete=sum(run.status == "complete" for run in study.runs),
        runs_planned=len(study.planned_runs),
        score=task_of_study(study).primary.title,
    )


def _verdict(methods: Sequence[MethodPair], same: bool | None, *, scores: tuple[str, str], n_test: int) -> list[str]:
    """Sentences by stated rules: what is clearly different, at 5 % after Holm's correction, and what else differs."""
    shared = [pair for pair in methods if pair.a and pair.b]
    if not shared:
        return ["No method has a result in both studies: there is nothing to compare."]
    if scores[0] != scores[1]:
        return [
            f"A is ranked by {scores[0]} and B by {scores[1]}, and of two scores no difference is taken. Make one of "
            "them again with the --metric of the other.",
            *_reasons(shared),
        ]
    if not same:
        why = "The test rows of one of them cannot be read" if same is None else "They were tested on other rows"
        return [f"{why}, so no difference is tested: each score stands alone with its interval.", *_reasons(shared)]
    found = [(pair.method, pair.paired) for pair in shared if pair.paired is not None]
    if not found:
        return ["The predictions cannot be read, so no difference is tested.", *_reasons(shared)]
    say = SCORES[shared[0].b.metric].format if shared[0].b else SCORES["accuracy"].format
    clear = [(method, paired) for method, paired in found if paired.p < _ALPHA]
    said = []
    for better, word in ((True, "scores higher"), (False, "scores lower")):
        named = [(m, p) for m, p in clear if (p.difference > 0) == better]
        if named:
            said.append(f"B {word} than A with {_listed([_claim(m, p, say) for m, p in named])}.")
    if not clear and all(paired.alike for _, paired in found):
        return ["All methods predict the same in both, seed by seed.", *_reasons(shared)]
    if not clear:
        widest = max(max(abs(paired.low), abs(paired.high)) for _, paired in found)
        said.append(
            f"No method is clearly better in one of them on the same {n_test:,} test rows; "
            f"differences of up to {say.within(widest)} are not ruled out."
        )
        return [*said, *_reasons(shared)]
    rest = len(found) - len(clear)
    if rest:
        said.append(f"With {rest} other {'method' if rest == 1 else 'methods'} there is no clear difference.")
    return [*said, *_reasons([pair for pair in shared if pair.method in dict(clear)])]


def _claim(method: str, paired: Paired, say: ScoreFormat) -> str:
    span = say.span(paired.low, paired.high)
    return f"{units.clip(method, 40)} ({say.difference(paired.difference)}{say.unit}, {span})"


def _reasons(pairs: Sequence[MethodPair]) -> list[str]:
    """What differs beside the results, for the methods of which something was said."""
    names = list(dict.fromkeys(name for pair in pairs for name in pair.causes))
    if not names:
        return ["Nothing else on record differs: neither data, encoder and settings, nor versions and hardware."]
    shown = [units.clip(name, 60) for name in names]
    if len(shown) > _NAMED:
        shown = [*shown[:_NAMED], f"{len(shown) - _NAMED} more, listed below"]
    if len(names) == 1:
        return [f"Of what is on record, {shown[0]} alone differs."]
    return [f"They differ in {_listed(shown)}: which of these makes a difference, the two studies cannot say."]


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _notes(
    studies: tuple[StudyRecord, StudyRecord],
    methods: Sequence[MethodPair],
    differing: Sequence[Differing],
    *,
    without_settings: bool,
) -> list[str]:
    """How the numbers are to be read."""
    notes = []
    for letter, study in zip("AB", studies, strict=True):
        ended = sum(run.status == "complete" for run in study.runs)
        if study.status != "complete":
            notes.append(f"{letter} is {study.status}: {ended} of {len(study.planned_runs)} planned runs are complete.")
    if any(pair.paired for pair in methods):
        notes.append(
            "Differences are B minus A, paired by test row; p is two-sided, Holm-corrected over the methods for which "
            "something differs (and apart from them over the rest)."
        )
    one_seed = [p for p in methods if p.paired and p.a and p.b and 1 in (p.a.n_seeds, p.b.n_seeds)]
    if any(pair.a and pair.a.kind in TRAINED_KINDS for pair in one_seed):
        notes.append("Where a study has one seed, intervals show what other test rows would change, not another seed.")
    if unread := [units.clip(p.method, 40) for p in methods if p.untested == UNREADABLE]:
        notes.append(f"Not tested, since predictions are missing or damaged: {', '.join(unread[:_NAMED])}.")
    hardware = [place.key.removeprefix("hardware.") for place in differing if place.group == "hardware"]
    if hardware:
        notes.append(f"Times and memory are of machines that are not alike ({', '.join(hardware[:_NAMED])}).")
    if without_settings:
        notes.append("A config.yaml is missing or damaged: settings that no run has on record could not be compared.")
    return notes
