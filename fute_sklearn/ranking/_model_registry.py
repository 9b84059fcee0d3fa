"""Models that are added one after another, and ranked without being called again."""

from __future__ import annotations

import json
import os
import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import check_random_state

from .._utils._stack_level import find_stack_level
from ..embedders._surrogate_embedder import SurrogateEmbedder
from ..exceptions import LabelMismatchError, ModelLabelError, ModelLabelWarning
from ..models._mte_wrapper import MTEWrapper
from ..models.adapters._recorded import is_recorded
from ..tasks._label_spaces import nearly_equal
from ..tasks._task import Task
from ..tasks._validation import check_texts, label_name
from ._answer_drift import AnswerDrift, check_tolerance
from ._label_proposals import proposal
from ._model_scores import closed_form_of
from ._rank_models import checked_embedder, checked_target, rank_models
from ._registry_answers import RegistryAnswers
from ._registry_files import Entry
from ._registry_store import RegistryStore
from ._registry_vectors import RegistryVectors, similarities
from ._target_scorer import is_balanced

if TYPE_CHECKING:
    import pandas as pd

IF_CHANGED = ("raise", "version")
COLUMNS = ("version", "labels", "abstained", "created", "seconds", "fingerprint")
SHOWN = 5


class ModelRegistry:
    """Rank models that were added over time, without calling any of them again.

    A model labels the registry's texts once, when it is added; what it answered is kept
    in a file, and rankings for any number of tasks are made from the files.  Several
    processes may add, remove and rank at the same time.

    The folder holds plain files: ``texts.jsonl``, and in ``models`` one file for each
    version of a model (a line with a checksum, a line with what is known of it as JSON,
    and its answers in numpy's format).  ``catalogue`` and ``index`` can be computed
    from these again, and may be removed.  Nothing in it is pickled.

    Parameters
    ----------
    folder : path
        Folder of the registry; created with its texts if it is none yet.
    texts : sequence of str, optional
        Unlabelled texts that all models label: thousands, varied, and similar to the
        models' training texts.  They cannot be changed later; where the registry
        exists, they may be left out.
    embedder : embedder, optional
        As in `rank_models`; ``TuPaTEEmbedder()`` by default.  It belongs to this
        object, not to the folder.

    Attributes
    ----------
    folder : Path
        The folder.
    texts : tuple of str
        The unlabelled texts.
    embedder : embedder
        The embedder.

    Raises
    ------
    FileNotFoundError
        If the folder is no registry, and no ``texts`` are given.
    ValueError
        If the registry has other texts, or was written by a later version.
    RegistryDamagedError
        If its texts cannot be read, and none are given.

    Warns
    -----
    DamagedRegistryWarning
        In any method, if a model's file is damaged; it is set aside.
    DamagedCacheWarning
        If a file of ``catalogue`` or ``index`` is damaged; it is computed again.

    See Also
    --------
    rank_models : Rank models for one task.

    Examples
    --------
    >>> import tempfile
    >>> from fute_sklearn import ModelRegistry, TuPaTEEmbedder
    >>> texts = ["a fine film", "a dull film", "fine food", "dull and grey"]
    >>> registry = ModelRegistry(
    ...     tempfile.mkdtemp(), texts, TuPaTEEmbedder("fute-tiny-random", max_epochs=1))
    >>> def rule(text: str) -> str:
    ...     return "good" if "fine" in text else "bad"
    >>> registry.add("rule", rule, owner="me")
    >>> registry.add_answers("theirs", ["good", "bad", "good", "good"])
    >>> registry.list()["owner"].to_dict()
    {'rule': 'me', 'theirs': nan}
    >>> table = registry.rank(["fine wine", "a dull day"], ["good", "bad"])
    >>> sorted(table.index)
    ['rule', 'theirs']
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        texts: Sequence[str] | None = None,
        embedder: SurrogateEmbedder | None = None,
    ) -> None:
        self.folder = Path(folder).expanduser().absolute()
        given = None if texts is None else check_texts(texts, "texts")
        self._store = RegistryStore(self.folder, given)
        self.texts = self._store.texts
        self.embedder = checked_embedder(embedder)
        self._vectors = RegistryVectors(self._store, self.folder, self.embedder)

    def __reduce__(self) -> tuple[Any, ...]:
        # The texts lie in the folder, and its locks are this process's own.
        return type(self), (self.folder, None, self.embedder)

    def __repr__(self) -> str:
        return f"ModelRegistry({str(self.folder)!r}): {len(self)} models"

    def __len__(self) -> int:
        return len(self._store.latest())

    def __contains__(self, name: object) -> bool:
        return name in self._store.latest()

    # What there is --------------------------------------------------------------

    def list(self) -> pd.DataFrame:
        """List the models.

        Returns
        -------
        table : DataFrame
            Indexed by name, with a row for each version: ``version``, ``labels``,
            ``abstained`` (the share of texts without an answer), ``created`` (the date
            and time in UTC), ``seconds`` (that labelling took; next to nothing for
            answers that were kept or given), ``fingerprint``, and a column for each
            item of metadata.
        """
        import pandas as pd

        entries = sorted(
            self._store.entries().values(), key=lambda e: (e.name, e.version)
        )
        rows = [
            {
                "version": e.version,
                "labels": e.labels,
                "abstained": e.abstained,
                "created": pd.Timestamp(e.created),
                "seconds": e.seconds,
                "fingerprint": e.identity,
                **e.metadata,
            }
            for e in entries
        ]
        index = pd.Index([e.name for e in entries], name="model", dtype=object)
        return pd.DataFrame(rows, index, None if rows else [*COLUMNS])

    def task(self, name: str) -> Task:
        """Return the texts as a model labelled them.

        Parameters
        ----------
        name : str
            The model; its latest version counts.

        Returns
        -------
        task : Task
            The texts that it answered, with its answers.

        Raises
        ------
        KeyError
            If there is no such model.
        """
        return self._store.answers(name).task(name, self.texts)

    # Changes --------------------------------------------------------------------

    def add(
        self, name: str, model: Any, *, if_changed: str = "raise", **metadata: Any
    ) -> None:
        """Have a model label the texts, and keep its answers.

        A model that is there already under this name is not called again; its metadata
        are updated.  Answers are kept as they come, so that after a stop only what is
        missing is asked (see `MTEWrapper`).  A model that is there but left out texts
        for reasons that may pass, as an outage of a server, or on which it failed and
        its wrapper drops them, is asked for these; if it fails again, a warning tells.

        Parameters
        ----------
        name : str
            Name of the model.
        model : object
            The model: of any kind that `MTEWrapper` knows, or an `MTEWrapper`.
        if_changed : {"raise", "version"}, default="raise"
            What to do with another model under a name that is taken: refuse it, or add
            it as a further version, which takes the place of the earlier ones in
            rankings.
        **metadata : object
            What else there is to tell of it, as ``owner="me", cost=0.2``; values that
            JSON can hold.

        Raises
        ------
        ModelChangedError
            If the registry has another model of this name.
        ModelLabelError
            If the model fails on the texts.
        ValueError
            If it answers with numbers or free texts, a parameter is wrong, or metadata
            have the name of a column of `list`.
        TypeError
            If metadata cannot be written as JSON.
        """
        _check_name(name)
        metadata = _checked_metadata(metadata)
        if if_changed not in IF_CHANGED:
            raise ValueError(
                f"if_changed={if_changed!r}, expected one of {IF_CHANGED}."
            )
        wrapper = _wrapped(model, name)
        identity = wrapper.identity()
        may_change = if_changed == "version"
        if identity and self._store.holds(name, identity, may_change, metadata):
            self._ask_again(name, identity, wrapper)
            return
        start = time.monotonic()
        task = wrapper.label(list(self.texts))
        answers = RegistryAnswers.of(task, self.texts)
        entry = Entry(
            name,
            identity or answers.key,
            [*answers.labels],
            float(answers.abstained.mean()),
            datetime.now(UTC).isoformat(timespec="seconds"),
            round(time.monotonic() - start, 3),
            metadata=metadata,
            drops=_drops(model),
        )
        self._store.write(entry, answers, may_change)

    def _ask_again(self, name: str, identity: str, wrapper: MTEWrapper) -> None:
        """Ask a model for texts that it left out, if it may answer them now."""
        if not _may_answer_more(wrapper):
            return
        rows = self._store.left_out(name, identity)
        if not len(rows):
            return
        texts = tuple(self.texts[i] for i in rows)
        # Of a few answers it could not be told that they are labels.
        wrapper = MTEWrapper(**{**wrapper.get_params(deep=False), "kind": "label"})
        try:
            found = RegistryAnswers.of(wrapper.label(list(texts)), texts)
        except ModelLabelError as error:
            warnings.warn(
                f"{len(texts)} texts that the model {name!r} left out are still "
                f"without an answer: {error}",
                ModelLabelWarning,
                stacklevel=find_stack_level(),
            )
        else:
            self._store.fill(name, identity, rows, found)

    def add_answers(
        self, name: str, answers: Any, *, if_changed: str = "raise", **metadata: Any
    ) -> None:
        """Add a model that lives elsewhere, by its answers to the texts.

        Parameters
        ----------
        name : str
            Name of the model.
        answers : sequence, Series, dict, DataFrame, Task or path
            Its answers, in any of the forms that `MTEWrapper` knows: joined by text
            where there are texts, and else in the order of the registry's.
        if_changed : {"raise", "version"}, default="raise"
            What to do with other answers under a name that is taken; see `add`.
        **metadata : object
            What else there is to tell of it; see `add`.

        Raises
        ------
        TypeError
            If ``answers`` are no answers, or metadata cannot be written as JSON.
        ModelChangedError
            If the registry has other answers under this name.
        ModelLabelError
            If texts lack an answer, or answers do not fit the texts.
        """
        if not is_recorded(answers):
            raise TypeError(
                f"answers is a {type(answers).__name__}; expected answers to the "
                "texts, as a list, Series, dict, DataFrame, Task or the path of a "
                "file. Models that can be called are added by add."
            )
        self.add(name, answers, if_changed=if_changed, **metadata)

    def remove(self, name: str) -> None:
        """Remove all versions of a model.

        Parameters
        ----------
        name : str
            The model.

        Raises
        ------
        KeyError
            If there is no such model.
        """
        self._store.remove(name)

    def rename(self, name: str, new_name: str) -> None:
        """Rename a model, with all its versions.

        Parameters
        ----------
        name, new_name : str
            The old and the new name.

        Raises
        ------
        KeyError
            If there is no such model.
        ValueError
            If the new name is taken.
        """
        _check_name(new_name)
        self._store.rename(name, new_name)

    # Rankings -------------------------------------------------------------------

    def rank(
        self,
        X: Any,
        y: Any = None,
        *,
        kind: str | None = None,
        classes: Any = None,
        top: int = 200,
        label_names: Mapping[str, Any] | str | None = None,
        scoring: Any = "accuracy",
        class_weight: str | None = "auto",
        **options: Any,
    ) -> pd.DataFrame:
        """Rank the models for a labelled task, without calling them.

        Where there are more than ``top`` models, all are scored in closed form from
        the moments of their answers, and the best go on to `rank_models`.

        Parameters
        ----------
        X : sequence of str of length n_samples, or Task
            Texts of the target task, or the task itself.
        y : sequence of length n_samples, optional
            Labels of the target task; None where X is a `Task`.
        kind, classes : optional
            See `rank_models`.
        top : int, default=200
            Most models in the table: the best by the closed form, and beside them all
            whose abstentions are left out, of which it tells nothing.  They are
            compared with each other, so that time grows faster than their number;
            ``p_best``, shortlist and verdict are among them, not among the others.
        label_names : dict or "match", optional
            What the models' labels are called in the target, see `rank_models`.  The
            models that a dict names are ranked in any case, as are those with answers
            to labelled rows (``labelled=``).
        scoring, class_weight : optional
            See `rank_models`.
        **options
            Other parameters of `rank_models`, but ``models``, ``texts``, ``embedder``
            and ``n_labelled``.

        Returns
        -------
        table : DataFrame
            See `rank_models`; the latest versions count.  ``attrs`` has in addition
            ``n_models``, the number of those that were compared, and ``left_out``, the
            names of those that share no label with the target.

        Raises
        ------
        LabelMismatchError
            If no model shares a label with the target, or one has a label that differs
            in case, spaces or Unicode form only.
        ValueError
            If the registry is empty, or an option is wrong.
        """
        target = checked_target(X, y, kind, classes)
        if wrong := {"models", "texts", "embedder", "n_labelled"} & set(options):
            raise ValueError(
                f"rank takes no {sorted(wrong)}: models, texts and embedder are the "
                "registry's, whose models cannot be asked; give answers to labelled "
                "rows as labelled=..."
            )
        if not isinstance(top, Integral) or isinstance(top, bool) or top < 1:
            raise ValueError(f"top={top!r}, expected a positive int.")
        named = set(label_names) if isinstance(label_names, Mapping) else set()
        files, left_out = self._fitting(target, named, label_names == "match")
        chosen = list(files)
        if len(files) > top:
            if label_names == "match":
                raise ValueError(
                    f"label_names='match' compares every model's labels, {len(files)} "
                    f"here; raise top={top} to that, or name the models in a dict."
                )
            answers = getattr(options.get("labelled"), "columns", ())
            asked = named | set(map(str, answers))
            best = self._best(files, target, scoring, class_weight, int(top), asked)
            dropped = options.get("abstentions") == "drop"
            also = self._dropping(files, dropped) | set(best)
            chosen = [name for name in files if name in also]
        found = {}
        for name in chosen:
            try:
                wrapper = self._store.answers(name, files[name]).wrapper(name)
                if self._store.entry(files[name]).drops:
                    wrapper.set_params(abstentions="drop")
                found[name] = wrapper
            except KeyError:  # damaged, as a warning said, or removed just now
                left_out = [*left_out, name]
        if not found:
            raise ValueError("no model of the registry is left; add models first.")
        table = rank_models(
            found,
            target,
            texts=self.texts,
            embedder=self.embedder,
            label_names=label_names,
            scoring=scoring,
            class_weight=class_weight,
            **options,
        )
        table.attrs |= {"n_models": len(files), "left_out": left_out}
        return table

    def _best(
        self,
        files: Mapping[str, str],
        target: Task,
        scoring: Any,
        class_weight: str | None,
        top: int,
        asked: set[str],
    ) -> Sequence[str]:
        """Names of the best models by their closed-form students, and those asked."""
        balanced = is_balanced(class_weight, scoring, target)
        scores = self._vectors.scores(list(files.values()), target, scoring, balanced)
        scores[np.isnan(scores)] = -np.inf
        forced = np.array([name in asked for name in files])
        scores[forced] = np.inf
        best = np.argsort(-scores, kind="stable")[: max(top, int(forced.sum()))]
        names = list(files)
        return [names[i] for i in np.sort(best)]

    def _dropping(self, files: Mapping[str, str], all_drop: bool) -> set[str]:
        """Names of models whose abstentions are left out of rankings.

        Closed-form scores count these as wrong, and say nothing of such models.
        """
        entries = {name: self._store.entry(file) for name, file in files.items()}
        return {
            name
            for name, one in entries.items()
            if one.abstained and (all_drop or one.drops)
        }

    def _fitting(
        self, target: Task, named: set[str], all_fit: bool
    ) -> tuple[dict[str, str], Sequence[str]]:
        """Files of the models that share labels with a target, and the other names."""
        names = set(target.targets.names)
        current = self._store.latest()
        if not current:
            raise ValueError("the registry is empty; add models first.")
        fits: dict[tuple[str, ...], bool] = {}
        out, left_out = {}, []
        for name, file in current.items():
            labels = self._store.label_names(file)
            if labels not in fits:
                near = nearly_equal(labels, target.targets.names)
                fits[labels] = bool(names & set(labels)) or bool(near)
            if all_fit or name in named or fits[labels]:
                out[name] = file
            else:
                left_out.append(name)
        if not out:
            shown = [list(labels) for labels in list(fits)[:SHOWN]]
            raise LabelMismatchError(
                f"no model shares a label with the target, {sorted(names)}; theirs are "
                f"{shown}. Say what they are called there: "
                "label_names={'<model>': {...}}, or label_names='match'."
                f"{self._proposal(left_out[:SHOWN], target)}"
            )
        return out, left_out

    def _proposal(self, names: Sequence[str], target: Task) -> str:
        """Say what labels of models are called in a target, if behaviour tells."""
        tasks = []
        for name in names:
            # Removed by another process just now, or without an answer.
            with suppress(KeyError, ValueError):
                tasks.append(self._store.answers(name).task(name, self.texts))
        return proposal(tasks, target, closed_form_of(self.embedder))

    def nearest(self, name: str, n_models: int = 5) -> pd.DataFrame:
        """Find the models that answer most like one.

        Parameters
        ----------
        name : str
            The model.
        n_models : int, default=5
            Number of models to find.

        Returns
        -------
        table : DataFrame
            Indexed by model, most similar first: ``similarity``, the cosine of the
            moment embeddings, and ``agreement``, the share of texts with the same
            answer.  Models that lack one of its labels are not compared.

        Raises
        ------
        KeyError
            If there is no such model.
        ValueError
            If ``n_models`` is not positive.
        """
        import pandas as pd

        if not isinstance(n_models, Integral) or n_models < 1:
            raise ValueError(f"n_models={n_models!r}, expected a positive int.")
        names, rows = self._vectors.embeddings(self._store.file_of(name))
        own = self._store.answers(name).labelled()
        if name not in names:  # replaced by another process just now
            return self.nearest(name, n_models)
        place = names.index(name)
        similar = similarities(rows, place)
        order = np.argsort(-similar, kind="stable")
        best = order[order != place][:n_models]
        agree = []
        latest = self._store.latest()
        for i in best:
            other = self._store.answers(names[i], latest.get(names[i])).labelled()
            pairs = zip(own, other, strict=True)
            agree.append(np.mean([label_name(a) == label_name(b) for a, b in pairs]))
        return pd.DataFrame(
            {"similarity": similar[best], "agreement": agree},
            pd.Index([names[i] for i in best], name="model", dtype=object),
        )

    def map(
        self,
        colour: str | None = None,
        marker: str | None = None,
        *,
        like: str | None = None,
        method: str = "pca",
        random_state: Any = 0,
        ax: Any = None,
    ) -> Any:
        """Plot the models in two dimensions, by their moment embeddings.

        Parameters
        ----------
        colour, marker : str, optional
            Items of the metadata that choose a point's colour and marker.
        like : str, optional
            A model, whose labels the others must have to be drawn; by default the
            model whose labels most others have.
        method : {"pca", "tsne"}, default="pca"
            See `TaskMapDisplay.from_embeddings`.
        random_state : int, RandomState instance or None, default=0
            Seed of t-SNE.
        ax : matplotlib Axes, optional
            Axes to draw on; by default those of a new figure.

        Returns
        -------
        display : TaskMapDisplay
            The display, already plotted.

        Raises
        ------
        KeyError
            If there is no model ``like``.
        ValueError
            If there are fewer than three models to draw, or no model has the metadata.
        ImportError
            If matplotlib is not installed.
        """
        from ..plotting._task_map_display import TaskMapDisplay

        latest = self._store.latest()
        if like is None:
            if not latest:
                raise ValueError("the registry is empty; add models first.")
            kinds = Counter(map(self._store.label_names, latest.values()))
            most = kinds.most_common(1)[0][0]
            like = next(
                n for n, f in latest.items() if self._store.label_names(f) == most
            )
        names, rows = self._vectors.embeddings(self._store.file_of(like))
        latest = {**latest, **self._store.latest()}
        found = [self._store.entry(latest[name]).metadata for name in names]

        def column(key: str | None) -> Sequence[str]:
            if key is None:
                return ["model"] * len(found)
            if not any(key in one for one in found):
                raise ValueError(f"no model that is drawn has the metadata {key!r}.")
            return [str(one.get(key, "not known")) for one in found]

        return TaskMapDisplay.from_embeddings(
            rows - rows.mean(0),
            tasks=column(colour),
            families=column(marker),
            method=method,
            random_state=random_state,
            ax=ax,
        )

    def drift(
        self,
        name: str,
        model: Any,
        *,
        n_texts: int = 200,
        tolerance: float = 0.0,
        random_state: Any = 0,
    ) -> AnswerDrift:
        """Ask a model for some texts again, and compare with what it answered.

        Parameters
        ----------
        name : str
            The model in the registry; its latest version counts.
        model : object
            The model as it is now, as for `add`.
        n_texts : int, default=200
            Number of texts that are drawn and asked.
        tolerance : float, default=0.0
            Share of answers that changes by chance, as those of a language model that
            samples.
        random_state : int, RandomState instance or None, default=0
            Seed for drawing the texts.

        Returns
        -------
        drift : AnswerDrift
            The size of the change, with an exact test.

        Raises
        ------
        KeyError
            If there is no such model.
        ModelLabelError
            If the model fails on the texts.
        ValueError
            If ``n_texts`` or ``tolerance`` is wrong.
        """
        if not isinstance(n_texts, Integral) or n_texts < 1:
            raise ValueError(f"n_texts={n_texts!r}, expected a positive int.")
        check_tolerance(tolerance)
        before = self._store.answers(name).labelled()
        rng = check_random_state(random_state)
        count = min(int(n_texts), len(self.texts))
        rows = np.sort(rng.choice(len(self.texts), count, replace=False))
        texts = tuple(self.texts[i] for i in rows)
        wrapper = _wrapped(model, name)
        if is_recorded(wrapper.estimator):  # to all texts
            whole = RegistryAnswers.of(wrapper.label(list(self.texts)), self.texts)
            now = [whole.labelled()[i] for i in rows]
        else:
            answered = wrapper.label(list(texts), anew=True)
            now = RegistryAnswers.of(answered, texts).labelled()
        return AnswerDrift.of(texts, [before[i] for i in rows], now, tolerance)


def _wrapped(model: Any, name: str) -> MTEWrapper:
    """Wrap a model; its abstentions are kept, or raise if its wrapper says so."""
    wrapper = model if isinstance(model, MTEWrapper) else MTEWrapper(model)
    params = {**wrapper.get_params(deep=False), "name": name}
    if params["abstentions"] != "raise":  # rankings say what becomes of them
        params["abstentions"] = "keep"
    return MTEWrapper(**params)


def _may_answer_more(wrapper: MTEWrapper) -> bool:
    """Return whether a model may answer texts that it left out before."""
    passing = bool(getattr(wrapper.estimator, "failures_pass", False))
    return passing or wrapper.on_error == "drop"


def _drops(model: Any) -> bool:
    """Return whether a model's wrapper leaves out texts without an answer."""
    drops = (getattr(model, "abstentions", None), getattr(model, "on_error", None))
    return isinstance(model, MTEWrapper) and "drop" in drops


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"the name {name!r} is no name; expected a string.")


def _checked_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return metadata as they will be read again."""
    if taken := sorted(set(COLUMNS) & set(metadata)):
        raise ValueError(
            f"the metadata {taken} would hide columns of list(); give them other names."
        )
    try:
        return json.loads(json.dumps(metadata, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"the metadata {sorted(metadata)} cannot be written as JSON ({error}); "
            "give strings, numbers, booleans, and lists and dicts of these."
        ) from error
