"""Tell what a ranking will cost before it runs."""

from __future__ import annotations

import time
import tracemalloc
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np

from ..embedders._surrogate_embedder import SurrogateEmbedder
from ..exceptions import ModelLabelError
from ..models._mte_wrapper import MTEWrapper
from ..tasks._task import Task
from ..tasks._validation import check_texts
from ._label_proposals import distinct_rows, taken
from ._labelling import check_known_labels, label_texts, wrap_models
from ._model_scores import Plan, Ranking, make_plan
from ._rank_models import check_settings, checked_embedder, checked_target
from ._student_errors import check_scorer
from ._target_scorer import is_balanced

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 400  # of the target, that are scored for the forecast
MOST_LABELS = 100_000  # of which closed-form students are timed
WARM_UP, TIMED = 2, 12  # batches of the encoder


def forecast(
    models: Any,
    X: Any,
    y: Any = None,
    *,
    texts: Any,
    kind: str | None = None,
    classes: Any = None,
    label_names: Mapping[str, Any] | str | None = None,
    embedder: SurrogateEmbedder | None = None,
    scoring: Any = "accuracy",
    students: str = "auto",
    quick: bool = False,
    max_seconds: float = 60.0,
    n_sample: int = 192,
) -> pd.DataFrame:
    """Forecast what `rank_models` will cost, from a small timed sample.

    Every model labels ``n_sample`` of the texts, some batches are encoded, and students
    of these labels are fitted and scored; the seconds of all texts follow from that.
    What the models answer and what is encoded for the forecast is kept where caches are
    on, so that a ranking which follows does not pay for it again; see `set_config`.

    Parameters
    ----------
    models, X, y, texts, kind, classes, label_names, embedder : see `rank_models`
        As there; y is needed.
    scoring, students, quick, max_seconds : see `rank_models`
        As there.
    n_sample : int, default=192
        Number of distinct texts that every model labels now, drawn at random, each
        once.  Fewer cost less, and make the seconds less certain.  A model that has
        answered them before is timed on half as many others.

    Returns
    -------
    table : DataFrame
        A row for each model, ``"label <name>"``, then ``"encode"`` (the surrogate's
        pass over texts and target) and ``"students"`` (their fits and scores), with

        - ``calls``: texts that the model will be asked for; texts to encode; students;
        - ``requests``: those that a model behind a server will be sent, where its
          client can tell; NaN elsewhere;
        - ``tokens``: of the encoder, or of the requests to a server; NaN elsewhere;
        - ``seconds``: what is left to do, on this machine, one model at a time;
        - ``bytes``: memory that the stage needs at most at a time: states of all texts
          (on disk instead, where there is a cache folder), labels, arrays of the
          students.  Weights and the work space of torch are not in it.

        ``table.attrs`` has ``seconds`` (all that is left), ``spent_seconds`` (the
        forecast itself), ``students`` (those that will be taken) and ``errors``, by
        name, of models that fail, whose seconds are NaN.  Labels that are to be matched
        are not matched yet.

    Raises
    ------
    ModelLabelError
        If all models fail on the sample.
    LabelMismatchError, TypeError, ValueError
        As `rank_models`; or ``n_sample`` is less than 12.

    See Also
    --------
    MTEWrapper.rows_to_ask : The texts that one model would be asked for.

    Examples
    --------
    >>> from fute_sklearn import TuPaTEEmbedder, forecast
    >>> class Rule:
    ...     def __init__(self, word): self.word = word
    ...     def predict(self, X):
    ...         return ["good" if self.word in x else "bad" for x in X]
    >>> texts = [f"{word} {i}" for i in range(100) for word in ("fine", "dull")]
    >>> table = forecast(
    ...     {"fine": Rule("fine"), "dull": Rule("dull")},
    ...     ["fine wine", "a dull day"], ["good", "bad"], texts=texts, n_sample=60,
    ...     embedder=TuPaTEEmbedder("fute-tiny-random", max_epochs=1))
    >>> list(table.index)
    ['label fine', 'label dull', 'encode', 'students']
    >>> table.attrs["students"]
    'both'
    """
    import pandas as pd

    began = time.perf_counter()
    if not isinstance(n_sample, Integral) or n_sample < 12:
        raise ValueError(f"n_sample={n_sample!r}, expected an int of at least 12.")
    check_settings(students, max_seconds, "auto", 0, scoring)
    target = checked_target(X, y, kind, classes)
    check_scorer(target, scoring)
    wrapped, to_match = wrap_models(models, label_names, "wrong")
    given = texts if hasattr(texts, "iloc") else check_texts(texts, "texts")
    texts = check_texts(given, "texts")
    embedder = checked_embedder(embedder)
    plan = make_plan(embedder, len(wrapped), len(texts), students, quick, max_seconds)
    check_known_labels(wrapped, to_match, given, target, plan.closed)
    order = np.random.default_rng(0).permutation(distinct_rows(texts))
    tasks: dict[str, Task] = {}
    errors: dict[str, str] = {}
    found: dict[str, dict[str, float]] = {}
    for name, wrapper in wrapped.items():
        try:
            task, cost = _labelling(wrapper, given, texts, order, int(n_sample))
            tasks[name], found[f"label {name}"] = task, cost
        except ModelLabelError as error:
            errors[name] = str(error)
            found[f"label {name}"] = {"calls": np.nan, "seconds": np.nan}
    if not tasks:
        raise ModelLabelError(f"all models failed, as {next(iter(errors.values()))}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the sample; rank_models tells of all
        labelled = _in_labels_of(target, tasks, to_match, plan)
        reader = plan.closed if plan.taken == "closed" else embedder
        found["encode"], encoded = _encoding(reader, [*texts, *target.texts])
        known = {text for task in labelled for text in task.texts}
        known |= set(texts).intersection(encoded)
        sample = _Sample(labelled, sorted(known), target, plan, scoring)
        found["students"] = sample.forecast(len(texts), len(tasks))
    columns = ["calls", "requests", "tokens", "seconds", "bytes"]
    table = pd.DataFrame.from_dict(found, orient="index", columns=columns)
    if not errors:
        table["calls"] = table["calls"].astype(int)
    table.index.name = "stage"
    table.attrs = {
        "seconds": float(table["seconds"].sum()),
        "spent_seconds": time.perf_counter() - began,
        "students": plan.taken,
        "errors": errors,
    }
    return table


def _in_labels_of(
    target: Task, tasks: dict[str, Task], to_match: Collection[str], plan: Plan
) -> list[Task]:
    """Labelled samples in the target's labels, as students are fitted to them."""
    names = target.targets.names
    out = []
    for name, task in tasks.items():
        if name in to_match:  # which label is which does not matter for the costs
            y = [names[i % len(names)] for i in task.targets.proba.argmax(1)]
            task = Task(list(task.texts), y, classes=list(names), name=name)
            out.append(task.with_origin("model"))
            continue
        # Answers that exist already, so that no model is asked again.
        recorded, _ = wrap_models({name: task}, None, "drop")
        found = label_texts(
            recorded,
            {},
            list(task.texts),
            target,
            plan.closed,
            on_error="raise",
            n_jobs=None,
            callbacks=(),
        )
        out += found.tasks
    return out


def _seconds(run: Callable[[], Any]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _labelling(
    wrapper: MTEWrapper, given: Any, texts: list[str], order: np.ndarray, n_sample: int
) -> tuple[Task, dict[str, float]]:
    """Have a model label some texts, each once, in three calls that are timed.

    The first one warms it up; the difference of the others is what a text takes.
    ``order`` are the rows of distinct texts, the sample first.
    """
    sample = order[:n_sample]
    left = set(wrapper.rows_to_ask(given).tolist())
    ask = [i for i in sample if i in left]
    more = [i for i in order[n_sample:] if i in left]
    ask += more[: max(0, len(sample) // 2 - len(ask))]
    if not ask:
        began = time.perf_counter()
        task = wrapper.label(given)
        seconds = time.perf_counter() - began
        place = {text: i for i, text in enumerate(task.texts)}
        rows = [place[texts[i]] for i in sample if texts[i] in place]
        task = task.take(np.array(rows))
        return task, {"calls": 0.0, "seconds": seconds, "bytes": _bytes_of(task, texts)}
    edge = max(1, len(ask) // 8)
    took, answered = [], []
    parts = [ask[:edge], ask[edge : 2 * edge], ask[2 * edge :]]
    for part in filter(None, parts):
        began = time.perf_counter()
        answered.append(wrapper.label(taken(given, np.array(part))))
        took.append((time.perf_counter() - began, len(part)))
    task = answered[-1]
    rest = wrapper.rows_to_ask(given)
    out = {
        "calls": float(len(rest)),
        "seconds": _line(*took[-2:], len(rest)),
        "bytes": _bytes_of(task, texts),
    }
    client = getattr(wrapper.estimator, "client", None)
    if len(rest) and hasattr(client, "forecast"):
        told = wrapper.estimator.forecast(taken(given, rest))
        out |= {"requests": told["requests"], "tokens": told["tokens"]}
    some = taken(given, sample)
    # Where answers are kept, all of the sample is to be had for nothing.
    return (task if len(wrapper.rows_to_ask(some)) else wrapper.label(some)), out


def _line(*points: Any) -> float:
    """Extrapolate a cost from one or two pairs of cost and count, the larger last."""
    *known, count = points
    (full, many) = known[-1]
    (short, few) = known[0]
    if many <= few:
        return float(full / many * count)
    slope = max(full - short, 0.0) / (many - few)
    return float(max(full + slope * (count - many), 0.0))


def _bytes_of(task: Task, texts: list[str]) -> float:
    """Bytes of the labels of all texts."""
    targets = task.targets
    if targets.kind != "label":
        return 0.0
    return float(targets.proba.nbytes) / task.n_samples * len(texts)


def _encoding(
    embedder: SurrogateEmbedder, texts: Sequence[str]
) -> tuple[dict[str, float], list[str]]:
    """Time batches of the encoder, evenly over the texts' lengths.

    Also returns the texts of these batches.
    """
    batches = embedder.encoder_work(texts).batches
    chosen = np.unique(np.linspace(0, len(batches) - 1, WARM_UP + TIMED).astype(int))
    chosen = np.random.default_rng(0).permutation(chosen) if batches else chosen[:0]
    first, timed = (
        [text for i in part for text in batches[i]]
        for part in (chosen[:WARM_UP], chosen[WARM_UP:])
    )
    if first:
        embedder.encode(first)
    rate = 0.0
    if timed:
        rate = _seconds(lambda: embedder.encode(timed)) / len(chosen[WARM_UP:])
    left = embedder.encoder_work(texts)
    cost = {
        "calls": float(sum(map(len, left.batches))),
        "tokens": float(left.n_tokens),
        "seconds": rate * len(left.batches),
        "bytes": float(left.n_bytes),
    }
    return cost, [*first, *timed]


@dataclass
class _Sample:
    """Models' labels of some texts, whose students are timed.

    Tuned students are timed on these texts.  The closed form is quicker, so that it is
    timed on all texts that are encoded, to which the models' labels are dealt out.
    """

    labelled: list[Task]
    encoded: list[str]
    target: Task
    plan: Plan
    scoring: Any

    def forecast(self, n_texts: int, n_models: int) -> dict[str, float]:
        """Extrapolate the costs of all texts and rows."""
        many, rows = max(task.n_samples for task in self.labelled), len(self._rows)
        self.plan.closed.encode(self.encoded)
        self.plan.closed.encode(self.target.take(self._rows).texts)
        count = min(len(self.encoded), max(many, MOST_LABELS // n_models))
        costs = [self._cost("closed", count, n_texts, rows)]
        if self.plan.taken != "closed":
            costs.append(self._cost("tuned", many, n_texts, rows))
        return {
            "calls": float(n_models),
            "seconds": sum(cost[0] for cost in costs),
            "bytes": max(cost[1] for cost in costs),
        }

    @cached_property
    def _rows(self) -> np.ndarray:
        """Rows of the target that are scored."""
        order = np.random.default_rng(0).permutation(self.target.n_samples)
        return order[:MOST_ROWS]

    def _cost(
        self, which: str, many: int, n_texts: int, rows: int
    ) -> tuple[float, float]:
        """Seconds and bytes of one kind of students."""
        few = max(1, many // 3)
        memory = [(self._peak(which, n, rows), n) for n in (max(1, few // 2), few)]
        short, full = (self._timed(which, count, rows) for count in (few, many))
        seconds = _line((short, few), (full, many), n_texts)
        if self.target.n_samples > rows:
            half = self._timed(which, many, rows // 2)
            per_row = max(full - half, 0.0) / (rows - rows // 2)
            seconds += per_row * (self.target.n_samples - rows)
        return seconds, _line(*memory, n_texts)

    def _cut(self, task: Task, which: str, count: int) -> Task:
        """A task with so many texts."""
        if which == "tuned":
            return task.take(np.arange(min(count, task.n_samples)))
        return Task(
            self.encoded[:count],
            task.targets.proba[np.arange(count) % task.n_samples],
            classes=task.targets.classes,
            name=task.name,
            origin="model",
        )

    def _timed(self, which: str, count: int, rows: int) -> float:
        return _seconds(lambda: self._run(which, count, rows))

    def _peak(self, which: str, count: int, rows: int) -> float:
        """Most bytes of arrays at a time, which is measured in a run of its own."""
        was_on = tracemalloc.is_tracing()
        if was_on:
            tracemalloc.reset_peak()
        else:
            tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        try:
            self._run(which, count, rows)
            return float(tracemalloc.get_traced_memory()[1] - before)
        finally:
            if not was_on:
                tracemalloc.stop()

    def _run(self, which: str, count: int, rows: int) -> None:
        """Do what `rank_models` does once texts are labelled."""
        tasks = [self._cut(task, which, count) for task in self.labelled]
        target = self.target.take(self._rows[:rows])
        names = [str(task.name) for task in tasks]
        balanced = is_balanced("auto", self.scoring, target)
        plan = replace(self.plan, taken=which)
        work = Ranking(names, tasks, target, self.scoring, plan, balanced, ())
        scores = work.scores(which)
        if which == "closed":
            facts = work.facts()
            work.evidence(scores, facts["prior_score"], {}).posterior()
