"""Models that are added one after another, and ranked without being called again."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import check_random_state

from ..embedders._surrogate_embedder import SurrogateEmbedder
from ..models.adapters._recorded import is_recorded
from ..tasks._task import Task
from ..tasks._validation import check_texts, label_name
from ._answer_drift import AnswerDrift, check_tolerance
from ._rank_models import checked_embedder, checked_target, rank_models
from ._registry_answers import RegistryAnswers
from ._registry_candidates import RegistryCandidates
from ._registry_intake import COLUMNS, add_model, check_name, wrapped
from ._registry_store import RegistryStore
from ._registry_vectors import RegistryVectors, similarities

if TYPE_CHECKING:
    import pandas as pd

IF_CHANGED = ("raise", "version")


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
        check_name(name)
        if if_changed not in IF_CHANGED:
            raise ValueError(
                f"if_changed={if_changed!r}, expected one of {IF_CHANGED}."
            )
        add_model(self._store, name, model, if_changed == "version", metadata)

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
        check_name(new_name)
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
        candidates = RegistryCandidates(
            self._store, self._vectors, self.embedder, target, label_names
        )
        answers = getattr(options.get("labelled"), "columns", ())
        all_drop = options.get("abstentions") == "drop"
        names = candidates.best(int(top), scoring, class_weight, answers, all_drop)
        table = rank_models(
            candidates.wrappers(names),
            target,
            texts=self.texts,
            embedder=self.embedder,
            label_names=label_names,
            scoring=scoring,
            class_weight=class_weight,
            **options,
        )
        table.attrs |= {
            "n_models": len(candidates.files),
            "left_out": candidates.left_out,
        }
        return table

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
        wrapper = wrapped(model, name)
        if is_recorded(wrapper.estimator):  # to all texts
            whole = RegistryAnswers.of(wrapper.label(list(self.texts)), self.texts)
            now = [whole.labelled()[i] for i in rows]
        else:
            answered = wrapper.label(list(texts), anew=True)
            now = RegistryAnswers.of(answered, texts).labelled()
        return AnswerDrift.of(texts, [before[i] for i in rows], now, tolerance)
