"""TuPaTE: tuned parameters as a task's embedding."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from ..tasks._task import Task
from ._base_embedder import Fitted, OnStep
from ._student import READERS, StudentState
from ._surrogate_embedder import SURROGATE_CONSTRAINTS, SurrogateEmbedder
from ._tuned_state import TunedState

if TYPE_CHECKING:
    from .._engine import Encoded, Surrogate, TuneResult, TuneSettings

LEARNING_RATES = {"prompt": 5e-2, "bias": 2e-2, "lora": 1e-2}


class TuPaTEEmbedder(SurrogateEmbedder):
    """Embed a task by the parameters that are tuned on it (TuPaTE).

    A small set of parameters in the decoder of a frozen surrogate is tuned on the
    task; the tuned values, averaged over the layers and flattened, are the embedding.
    All tasks start from one initial value, given by ``random_state`` and the
    surrogate, so that embeddings can be compared.  Texts are encoded once, tasks over
    the same texts are tuned together (`TaskVectorizer`), and a task's embedding
    depends neither on the order of its classes nor on the tasks tuned with it.

    Parameters
    ----------
    surrogate : str or path, default="fute-mini"
        The T5 that all tasks share: ``"fute-mini"``, which is shipped with the
        package, a folder written by ``save_pretrained``, or a hub id such as
        ``"google-t5/t5-base"``.  A name, never a model: weights are loaded once per
        process and not pickled; another machine must have them too.
    tuning : {"lora", "prompt", "bias"}, default="lora"
        ``"prompt"``, the paper's choice, tunes key and value prefixes of the
        decoder's self-attention and cross-attention in every layer; ``"bias"`` tunes
        biases added to attention and feed-forward outputs; ``"lora"`` tunes low-rank
        products added to the cross-attention's projections, which teaches a small
        surrogate the most.
    prefix_length : int, default=16
        Prefix positions per layer, for ``tuning="prompt"``.  They start at random, or
        where the surrogate's ``starts.safetensors`` has learnt to start them.
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
        Average the tuned parameters over the layers, as in the paper; False keeps all
        layers, a vector as many times longer as there are layers.
    subtract_initial : bool, default=False
        Take the difference from the initial value instead of the value.
    max_length : int, default=128
        Tokens per text; longer texts are cut with a warning.
    device : str, default="auto"
        ``"auto"`` takes CUDA, then MPS, then the CPU.  A fit from a GPU loads on a
        CPU-only machine.
    dtype : {"float32", "bfloat16"}, default="float32"
        Precision of the frozen weights.
    random_state : int, RandomState instance or None, default=0
        Seeds the initial value and the order of the texts.  Embeddings of different
        seeds live in different spaces, which is why the default is fixed; None draws
        a new space at every fit.

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
        The tuned surrogate, as an estimator of its own.
    fingerprint_ : str
        Name of the space: surrogate, method and parameters.
    n_samples_seen_ : int
        Number of texts.
    target_kind_ : {"label", "number", "text"}
        Kind of the targets.

    See Also
    --------
    MomentEmbedder : A closed form, faster and often the better ranking.
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
    >>> est = TuPaTEEmbedder("fute-tiny-random", max_epochs=1).fit(X, y)
    >>> est.embedding_.shape
    (512,)
    >>> est.student_.predict(X).shape
    (4,)
    """

    _parameter_constraints = {
        **SURROGATE_CONSTRAINTS,
        "tuning": [StrOptions({"lora", "prompt", "bias"})],
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

    def n_steps(self, tasks: Sequence[Task]) -> int:
        """Count the epochs that embedding some tasks together takes.

        Parameters
        ----------
        tasks : sequence of Task
            Tasks that share their texts.

        Returns
        -------
        n_steps : int
            Epochs, summed over the passes.
        """
        from .._engine import task_batches

        labels = sum(task.targets.kind == "label" for task in tasks)
        return self.max_epochs * (len(tasks) - labels + len(task_batches(labels)))

    def _space(self, surrogate: Surrogate, task: Task, seed: int) -> tuple[Any, ...]:
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
        """Return how the engine tunes, for scripts that call the engine.

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
        return [self._fitted(task, results[i]) for i, task in enumerate(tasks)]

    def _fitted(self, task: Task, result: TuneResult) -> tuple[Fitted, TunedState]:
        parts = []
        for name in sorted(result.parameters):
            values = result.parameters[name]
            if self.subtract_initial:
                values = values - result.initial[name]
            parts.append((values.mean(0) if self.average_layers else values).ravel())
        fitted: Fitted = {
            "embedding_": np.concatenate(parts),
            "loss_curve_": result.loss_curve,
            "n_iter_": result.n_iter,
        }
        return fitted, TunedState(parameters=result.parameters).of(task)


def _read(folder: Path, record: dict[str, Any]) -> tuple[TuPaTEEmbedder, TunedState]:
    """Read a saved student: an embedder over the saved surrogate, and its state."""
    state = TunedState.load(folder, record)
    rank = (state.parameters or {})["cross_q.down"].shape[1]
    embedder = TuPaTEEmbedder(
        folder / "base", rank=rank, max_length=record["max_length"]
    )
    return embedder, state


READERS["TuPaTEEmbedder"] = _read
