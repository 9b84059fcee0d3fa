"""Embed a task by tuned parameters, or by the predictions they give (TuPaTE)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from .._utils._store import texts_key
from ..exceptions import TruncationWarning
from ..tasks._task import Task
from ._anchor_texts import anchor_texts
from ._base_embedder import Fitted, OnStep
from ._function_space import data_set_margins, student_margins
from ._reference_texts import ReferenceTexts, shared_texts
from ._student import READERS, StudentState
from ._surrogate_embedder import SURROGATE_CONSTRAINTS, SurrogateEmbedder
from ._tuned_state import TunedState

if TYPE_CHECKING:
    from .._engine import Encoded, Surrogate, TuneResult, TuneSettings

MAX_REFERENCE = 2000
LEARNING_RATES = {"prompt": 5e-2, "bias": 2e-2, "lora": 1e-2}


class TuPaTEEmbedder(SurrogateEmbedder):
    """Embed a task by a parameter-efficiently tuned surrogate (TuPaTE).

    A small set of parameters in the decoder of a frozen surrogate is tuned on the task.
    In parameter space, the published form, the tuned values, averaged over the layers
    and flattened, are the embedding.  In function space, the default, the embedding is
    the margins 2 P - 1 that the tuned surrogate predicts on reference texts, so that
    the cosine of two embeddings measures how far their predictions agree.  All tasks
    start from one initial value, given by ``random_state`` and the surrogate.  Texts
    are encoded once, tasks over the same texts are tuned together (`TaskVectorizer`),
    and an embedding depends neither on the order of the classes nor on the tasks tuned
    with it.

    Parameters
    ----------
    surrogate : str or path, default="fute-mini"
        The T5 that all tasks share: ``"fute-mini"``, which is shipped with the
        package, a folder written by ``save_pretrained``, or a hub id such as
        ``"google-t5/t5-base"``.  Weights are loaded once per process and not pickled,
        so an unpickled embedder needs access to the same ones.
    tuning : {"lora", "prompt", "bias"}, default="lora"
        ``"prompt"``, the paper's choice, tunes key and value prefixes of the
        decoder's self-attention and cross-attention in every layer; ``"bias"`` tunes
        biases added to attention and feed-forward outputs; ``"lora"`` tunes low-rank
        products added to the cross-attention's projections.
    space : {"function", "parameters"}, default="function"
        ``"function"``: margins 2 P - 1 of each label (or standardised numbers) on the
        reference texts.  The space depends on these texts and the labels only:
        embeddings of other seeds, settings and surrogates can be compared.
        ``"parameters"``: the tuned values, which agree less with how models answer
        (rank correlation with the accuracy of 54 models of nine topics .67 instead of
        .86, where label shares alone reach .77).  Free texts have no margins; their
        embedding is always one of parameters.
    reference : sequence of str or None, default=None
        Texts of the function space.  By default a `TaskVectorizer`, a `StudentRanker`
        and `rank_models` take up to 2,000 of the texts that the models labelled; a lone
        ``fit`` takes 960 built-in sentences.
    data_set : {"moments", "student"}, default="moments"
        How the margins of a data set are computed: from the moments of its labels with
        the encoder's features, which suits few rows best, or by a surrogate tuned on
        it. Tasks that `MTEWrapper` has labelled always use the tuned surrogate.
    class_weight : {"balanced"} or None, default=None
        ``"balanced"`` gives all classes of a data set the same weight in its moments,
        for gains that do so (balanced accuracy); the space stays the same.
    prefix_length : int, default=16
        Prefix positions per layer, for ``tuning="prompt"``.  They start at random, or
        at the pretrained values in the surrogate's ``starts.safetensors``.
    rank : int, default=4
        Rank of the products, for ``tuning="lora"``.
    learning_rate : float or None, default=None
        Peak learning rate of AdamW; by default 0.05 for prompts, 0.02 for biases and
        0.01 for low-rank products.  The rate warms up and then falls linearly to 0.
    max_epochs : int, default=3
        Passes over the texts.
    batch_size : int, default=64
        Texts per step.
    weight_decay : float, default=0.0
        Decoupled decay of the tuned parameters.
    warmup_fraction : float, default=0.05
        Part of the steps in which the rate rises.
    dropout : float, default=0.0
        Dropout on the prefix, for ``tuning="prompt"``.
    clip_norm : float, default=1.0
        Norm to which a task's gradient is clipped; 0 switches clipping off.
    early_stopping : bool, default=False
        Hold out texts, stop when their likelihood no longer rises, and keep the best
        epoch.
    validation_fraction : float, default=0.1
        Part of the texts that early stopping holds out.
    n_iter_no_change : int, default=5
        Epochs without a gain after which early stopping ends.
    average_layers : bool, default=True
        In parameter space: average the tuned parameters over the layers, as in the
        paper; False keeps all layers, so that the vector is as many times longer.
    subtract_initial : bool, default=False
        In parameter space: take the difference from the initial value instead of the
        value.
    max_length : int, default=128
        Tokens per text; longer texts are cut with a warning.
    device : str, default="auto"
        ``"auto"`` takes CUDA, then MPS, then the CPU.  A fit from a GPU loads on a
        CPU-only machine.
    dtype : {"float32", "bfloat16", "int8"}, default="float32"
        Precision of the frozen weights.
        ``"int8"``, on CPUs only, rounds the products of the encoder's pass: up
        to three times as fast where the CPU multiplies 8-bit integers, and rankings
        hardly change (see :ref:`precision`).  Every type is a space of its own.
    random_state : int, RandomState instance or None, default=0
        Seeds the initial value and the order of the texts.  In parameter
        space, embeddings of different seeds cannot be compared, so the default is
        fixed; None draws a new seed at every fit.

    Attributes
    ----------
    embedding_ : TaskVectors (dim,)
        The task embedding.
    classes_ : ndarray (n_classes,)
        Labels, sorted by name, where the targets are classes.
    loss_curve_ : ndarray (n_epochs,)
        Mean negative log-likelihood in each epoch, in nats.
    n_iter_ : int
        Number of epochs run.
    student_ : StudentClassifier, StudentRegressor or StudentGenerator
        The tuned surrogate, as a classifier, regressor or generator of texts.
    fingerprint_ : str
        Name of the space: reference texts and labels in function space; surrogate,
        method and settings in parameter space.
    n_samples_seen_ : int
        Number of texts.
    target_kind_ : {"label", "number", "text"}
        Kind of the targets.

    See Also
    --------
    MomentEmbedder : Closed-form embedding; faster, and ranks as well or better.
    TaskEmbedder : The Fisher information as an embedding.

    References
    ----------
    Zhou, Xu and McAuley (2022), "Efficiently tuned parameters are task embeddings".
    Wang et al. (2024), "Towards unified task embeddings across multiple models"
    (FUTE), section 3.

    Examples
    --------
    >>> from fute_sklearn import TuPaTEEmbedder
    >>> X = ["a fine film", "a dull film", "what joy", "how sad"]
    >>> y = ["positive", "negative", "positive", "negative"]
    >>> est = TuPaTEEmbedder("fute-tiny-random", max_epochs=1, reference=X).fit(X, y)
    >>> est.embedding_.shape  # four texts, two labels
    (8,)
    >>> est.student_.predict(X).shape
    (4,)
    """

    _parameter_constraints = {
        **SURROGATE_CONSTRAINTS,
        "tuning": [StrOptions({"lora", "prompt", "bias"})],
        "space": [StrOptions({"function", "parameters"})],
        "reference": ["array-like", None],
        "data_set": [StrOptions({"moments", "student"})],
        "class_weight": [StrOptions({"balanced"}), None],
        "prefix_length": [Interval(Integral, 1, None, closed="left")],
        "rank": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither"), None],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "warmup_fraction": [Interval(Real, 0, 1, closed="both")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "clip_norm": [Interval(Real, 0, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "average_layers": ["boolean"],
        "subtract_initial": ["boolean"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        surrogate: Any = "fute-mini",
        *,
        tuning: str = "lora",
        space: str = "function",
        reference: Any = None,
        data_set: str = "moments",
        class_weight: str | None = None,
        prefix_length: int = 16,
        rank: int = 4,
        learning_rate: float | None = None,
        max_epochs: int = 3,
        batch_size: int = 64,
        weight_decay: float = 0.0,
        warmup_fraction: float = 0.05,
        dropout: float = 0.0,
        clip_norm: float = 1.0,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        average_layers: bool = True,
        subtract_initial: bool = False,
        max_length: int = 128,
        device: str = "auto",
        dtype: str = "float32",
        random_state: Any = 0,
    ) -> None:
        self.surrogate = surrogate
        self.tuning = tuning
        self.space = space
        self.reference = reference
        self.data_set = data_set
        self.class_weight = class_weight
        self.prefix_length = prefix_length
        self.rank = rank
        self.learning_rate = learning_rate
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.warmup_fraction = warmup_fraction
        self.dropout = dropout
        self.clip_norm = clip_norm
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.average_layers = average_layers
        self.subtract_initial = subtract_initial
        self.max_length = max_length
        self.device = device
        self.dtype = dtype
        self.random_state = random_state

    def _n_epochs(self, tasks: Sequence[Task]) -> int:
        from .._engine import task_batches

        labels = sum(task.targets.kind == "label" for task in tasks)
        return self.max_epochs * (len(tasks) - labels + len(task_batches(labels)))

    def learn_space(self, tasks: Sequence[Task]) -> None:
        """Take as reference texts those that most of some tasks were labelled on.

        Where no two tasks have the same texts, those of all tasks are taken; 2,000 at
        most.  A reference that was given stays.

        Parameters
        ----------
        tasks : sequence of Task
            Tasks that will be compared.
        """
        if self.space == "function" and self.reference is None:
            self.reference = shared_texts(tasks).some(MAX_REFERENCE)

    def _reference_texts(self) -> ReferenceTexts:
        given = anchor_texts() if self.reference is None else self.reference
        return ReferenceTexts.of(given)

    def _in_function_space(self, task: Task) -> bool:
        return self.space == "function" and task.targets.kind != "text"

    def _of_weights(self, task: Task) -> bool:
        return not self._in_function_space(task)

    def _column_labels(self, task: Task) -> tuple[str, ...] | None:
        by_label = self._in_function_space(task) and task.targets.kind == "label"
        return task.targets.names if by_label else None

    def _space(self, surrogate: Surrogate, task: Task, seed: int) -> tuple[Any, ...]:
        if self._in_function_space(task):
            return ("function", texts_key(self._reference_texts()), *task.targets.names)
        # How long and how fast a task is tuned may differ between models and data
        # sets, as it does in the paper; the starting point and the shape may not.
        return (
            self.tuning,
            self.prefix_length if self.tuning == "prompt" else "",
            self.rank if self.tuning == "lora" else "",
            self.average_layers,
            self.subtract_initial,
            seed,
        )

    def settings(self, seed: int) -> TuneSettings:
        """Return the hyperparameters in the form that the engine takes.

        Parameters
        ----------
        seed : int
            Seed of the initial value and of the texts' order.

        Returns
        -------
        settings : TuneSettings
            The parameters of this embedder, rates filled in.
        """
        from .._engine import TuneSettings

        rate = self.learning_rate
        return TuneSettings(
            tuning=self.tuning,
            prefix_length=self.prefix_length,
            rank=self.rank,
            learning_rate=LEARNING_RATES[self.tuning] if rate is None else rate,
            max_epochs=self.max_epochs,
            batch_size=self.batch_size,
            weight_decay=self.weight_decay,
            warmup_fraction=self.warmup_fraction,
            dropout=self.dropout,
            clip_norm=self.clip_norm,
            early_stopping=self.early_stopping,
            validation_fraction=self.validation_fraction,
            n_iter_no_change=self.n_iter_no_change,
            seed=seed,
        )

    def _fit_group(
        self,
        surrogate: Surrogate,
        encoded: Encoded,
        tasks: Sequence[Task],
        seed: int,
        on_step: OnStep,
    ) -> list[tuple[Fitted, StudentState]]:
        from .._engine import label_tree, tune_labels, tune_texts

        settings = self.settings(seed)

        def report(epoch: int) -> None:
            on_step()

        labelled = [i for i, t in enumerate(tasks) if t.targets.kind == "label"]
        results: dict[int, TuneResult] = {}
        if labelled:
            trees = [label_tree(surrogate, tasks[i].targets.names) for i in labelled]
            proba = [tasks[i].targets.proba for i in labelled]
            found = tune_labels(surrogate, encoded, trees, proba, settings, report)
            results = dict(zip(labelled, found, strict=True))
        for i, task in enumerate(tasks):
            if i not in results:
                texts = list(task.targets.texts)
                results[i] = tune_texts(surrogate, encoded, texts, settings, report)
        out: list[tuple[Fitted, StudentState]] = []
        anchors: Encoded | None = None
        for i, task in enumerate(tasks):
            state = TunedState(parameters=results[i].parameters).of(task)
            if self._in_function_space(task):
                anchors = anchors or self._anchors(surrogate)
                vector = self._margins(anchors, encoded, task, state)
            else:
                vector = self._parameters(results[i])
            fitted: Fitted = {
                "embedding_": vector,
                "loss_curve_": results[i].loss_curve,
                "n_iter_": results[i].n_iter,
            }
            out.append((fitted, state))
        return out

    def _anchors(self, surrogate: Surrogate) -> Encoded:
        from .._engine import encode_texts

        with warnings.catch_warnings():
            if self.reference is None:  # nobody's texts, which serve when cut as well
                warnings.simplefilter("ignore", TruncationWarning)
            return encode_texts(surrogate, self._reference_texts())

    def _margins(
        self, anchors: Encoded, encoded: Encoded, task: Task, state: TunedState
    ) -> np.ndarray:
        if task.origin == "data" and self.data_set == "moments":
            weight = self.class_weight
            found = data_set_margins(encoded, task.targets, anchors, weight)
        else:
            found = student_margins(state, task.targets, anchors)
        return found.ravel(order="F")

    def _parameters(self, result: TuneResult) -> np.ndarray:
        parts = []
        for name in sorted(result.parameters):
            values = result.parameters[name]
            if self.subtract_initial:
                values = values - result.initial[name]
            parts.append((values.mean(0) if self.average_layers else values).ravel())
        return np.concatenate(parts)


def _read(folder: Path, record: dict[str, Any]) -> tuple[TuPaTEEmbedder, TunedState]:
    """Read a saved student: an embedder over the saved surrogate, and its state."""
    state = TunedState.load(folder, record)
    rank = (state.parameters or {})["cross_q.down"].shape[1]
    embedder = TuPaTEEmbedder(
        folder / "base",
        rank=rank,
        max_length=record["max_length"],
        dtype=record.get("dtype", "float32"),
    )
    return embedder, state


READERS["TuPaTEEmbedder"] = _read
