"""Choose a prompt for a data set, by any of the paper's criteria."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context, clone
from sklearn.utils._param_validation import HasMethods, StrOptions
from sklearn.utils.validation import check_is_fitted

from .._utils._stack_level import find_stack_level
from ..embedders._moment_embedder import MomentEmbedder
from ..embedders._task_embedder import TaskEmbedder
from ..embedders._task_vectorizer import TaskVectorizer
from ..embedders._tupate_embedder import TuPaTEEmbedder
from ..exceptions import LabelMismatchError
from ..metrics import ndcg_score
from ..models._mte_wrapper import MTEWrapper
from ..ranking._model_ranker import ModelRanker
from ..ranking._student_ranker import StudentRanker
from ..tasks._label_spaces import OF_PROMPTS, check_label_spaces
from ..tasks._names import check_names
from ..tasks._task import Task
from ..tasks._validation import label_name
from . import criteria
from ._label_scores import require
from ._prompted_llm import log_probabilities

LABEL_FREE = {name: getattr(criteria, name) for name in criteria.__all__}
EMBEDDED: dict[str, Callable[..., Any]] = {
    "taskemb": TaskEmbedder,
    "tupate": partial(TuPaTEEmbedder, space="parameters"),
    "moment": MomentEmbedder,
    "student": MomentEmbedder,
}
ASKING = ("spell", "self_select")
LABEL_PROBABILITY = "label_probability"
LABELLED = (LABEL_PROBABILITY, *EMBEDDED, *ASKING)
ONE_ANSWER, FEW_TEXTS = 0.95, 10
OF_CHOICES = ("global_entropy", "zps_vote")


class PromptSelector(ClassifierMixin, BaseEstimator):
    """Select the best of several prompts for a data set, and classify with it.

    Parameters
    ----------
    prompts : dict of str to PromptedLLM, or sequence of PromptedLLM
        The candidates, kept by reference; with a sequence, templates are the names.
    criterion : str, default="auto"
        How the prompts are compared.

        - ``"mutual_information"``, ``"local_entropy"``, ``"global_entropy"``,
          ``"zps_log"``, ``"zps_prob"``, ``"zps_vote"``, ``"zps_calibrated"``: by the
          label probabilities of the data set's texts, without labels; see
          ``fute_sklearn.llm.criteria``.
        - ``"label_probability"``: by the mean probability of the right label on the
          labelled data set; fewer rows suffice than for accuracy.
        - ``"spell"`` (Gonen et al. 2023): by minus the mean perplexity of the filled
          prompts.
        - ``"self_select"`` (Ramji 2023): by asking the language model itself, in every
          rotation of the prompts' order.
        - ``"student"``: by the expected score of each prompt's student on the labelled
          data set; ``"moment"``: by the dot product of moment embeddings; ``"taskemb"``
          and ``"tupate"`` (FUTE): by the cosine of embeddings.
        - ``"auto"``: with labels and other unlabelled ``texts``, ``"student"``; with
          labels alone, ``"label_probability"``; without labels, ``"zps_calibrated"``
          (``"zps_vote"`` where a client tells no probabilities).
    texts : sequence of str or of records, optional
        Unlabelled texts on which the prompts are run for ``"student"``, ``"moment"``,
        ``"taskemb"`` and ``"tupate"``; by default those of the data set.  With other
        texts, no prompt is run on the data set.
    embedder : embedder, optional
        Makes the embeddings or students of these four; by default `MomentEmbedder` for
        ``"student"`` and ``"moment"``, `TaskEmbedder` and `TuPaTEEmbedder` for the
        others.
    scoring : str or callable, default="accuracy"
        Scorer of ``"student"``.

    Attributes
    ----------
    criterion_ : str
        The criterion that was taken.
    reason_ : str
        Why ``"auto"`` took it.
    prompt_names_ : ndarray of str (n_prompts,)
        Names of the prompts in the order given.
    scores_ : ndarray (n_prompts,)
        Higher is better.
    ranking_ : ndarray of str (n_prompts,)
        Names, best first.
    best_prompt_ : PromptedLLM
        The prompt with the highest score.
    classes_ : ndarray (n_classes,)
        The prompts' labels.
    order_spread_ : float
        With ``"self_select"``: the mean standard deviation of a prompt's score over
        the orders of the prompts.

    See Also
    --------
    rank_models : Ranks models of any kind.

    Notes
    -----
    Prompts hold clients, and clients may hold keys: neither is part of a pickle, and
    ``clone`` keeps them by reference.

    Examples
    --------
    >>> import numpy as np
    >>> from fute_sklearn import PromptedLLM, PromptSelector
    >>> class Client:
    ...     capabilities, fingerprint = {"score"}, "a"
    ...     def score(self, contexts, continuations):
    ...         return [np.array([-3.0 if "Say" in c or "dull" not in c else 0.5, -0.1])
    ...                 for c in contexts]
    >>> prompts = {p: PromptedLLM(Client(), p, ["good", "bad"])
    ...            for p in ("Say: {text}", "{text} It was")}
    >>> selector = PromptSelector(prompts, "global_entropy")
    >>> selector.fit(["a fine film", "a dull film"]).ranking_.tolist()
    ['{text} It was', 'Say: {text}']
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "prompts": [Mapping, "array-like", None],
        "criterion": [StrOptions({"auto", *LABEL_FREE, *LABELLED})],
        "texts": ["array-like", Iterable, None],
        "embedder": [HasMethods(["fit", "embed"]), None],
        "scoring": [str, callable],
    }

    def __init__(
        self,
        prompts: Any,
        criterion: str = "auto",
        *,
        texts: Any = None,
        embedder: Any = None,
        scoring: Any = "accuracy",
    ) -> None:
        self.prompts = prompts
        self.criterion = criterion
        self.texts = texts
        self.embedder = embedder
        self.scoring = scoring

    def __sklearn_clone__(self) -> PromptSelector:
        # Clients may hold connections: prompts are kept by reference.
        return type(self)(**self.get_params(deep=False))

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("best_prompt_", None)
        return {**state, "prompts": None}

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None) -> PromptSelector:
        """Score the prompts for a data set.

        Parameters
        ----------
        X : sequence of str or of records of length n_samples
            The data set's texts.
        y : sequence of length n_samples, optional
            Their labels, which ``"label_probability"``, ``"student"``, ``"moment"``,
            ``"taskemb"`` and ``"tupate"`` need.

        Returns
        -------
        self : object
            The fitted selector.

        Raises
        ------
        LabelMismatchError
            If prompts have different labels, or others than y.
        ValueError
            If there are no prompts, or the criterion needs labels.
        ClientCapabilityError
            If the client cannot give what the criterion needs.

        Warns
        -----
        UserWarning
            If most prompts give nearly always one answer, which criteria without
            labels cannot see through.
        """
        X = list(X) if hasattr(X, "__next__") else X
        prompts = self._candidates()
        self.prompt_names_ = np.array(list(prompts), dtype=object)
        first = next(iter(prompts.values()))
        self.classes_ = first.classes_
        names = sorted(label_name(label) for label in first.labels)
        for name, prompt in prompts.items():
            if sorted(label_name(v) for v in prompt.labels) != names:
                raise LabelMismatchError(
                    f"the prompt {name!r} has the labels {list(prompt.labels)}, the "
                    f"first has {names}: prompts of one task share their labels. What "
                    "a prompt says for a label is its verbalizer's matter."
                )
        self.criterion_, self.reason_ = self._chosen(list(prompts.values()), y)
        if self.criterion_ in LABEL_FREE:
            proba = _label_evidence(list(prompts.values()), X, self.criterion_)
            _warn_of_one_answer(proba)
            self.scores_ = LABEL_FREE[self.criterion_](proba)
        elif self.criterion_ == "spell":
            self.scores_ = np.array([_fluency(p, X) for p in prompts.values()])
        elif self.criterion_ == "self_select":
            found = _preferences(list(prompts.values()))
            self.order_spread_ = float(found.std(0).mean())
            self.scores_ = found.mean(0)
        else:
            target = self._target(prompts, X, y, names)
            if self.criterion_ == LABEL_PROBABILITY:
                self.scores_ = _right_probabilities(prompts, X, target)
            else:
                self.scores_ = self._embedded_scores(prompts, X, target)
        order = np.argsort(-self.scores_, kind="stable")
        self.ranking_ = self.prompt_names_[order]
        self.best_prompt_ = prompts[self.ranking_[0]]
        return self

    def _candidates(self) -> dict[str, Any]:
        """Return the prompts by distinct names."""
        if self.prompts is None:
            raise ValueError(
                "there are no prompts: they are not part of a pickle, as their clients "
                "may hold keys, and so do not reach other processes (n_jobs) either. "
                "set_params(prompts=...) with the same ones, or fit again."
            )
        prompts = self.prompts
        if not isinstance(prompts, Mapping):
            prompts = _named(list(prompts))
        if not prompts:
            raise ValueError("there are no prompts to choose from.")
        names = check_names(list(prompts), len(prompts))
        return dict(zip(names, prompts.values(), strict=True))

    def _chosen(self, prompts: list[Any], y: Any) -> tuple[str, str]:
        """Return the criterion to take, and why."""
        if self.criterion != "auto":
            return self.criterion, "it was asked for"
        if y is not None and self.texts is not None:
            return "student", "there are labels, and other texts to run the prompts on"
        if y is not None:
            return LABEL_PROBABILITY, "the data set's own texts have labels"
        if all(map(_tells_probabilities, prompts)):
            return "zps_calibrated", "there are no labels"
        return "zps_vote", "there are no labels, and no probabilities to calibrate"

    def _target(
        self, prompts: dict[str, Any], X: Any, y: Any, names: list[str]
    ) -> Task:
        """Read the labelled data set, in the prompts' labels."""
        if y is None:
            raise ValueError(
                f"criterion={self.criterion!r} compares prompts with a labelled data "
                "set: fit(texts, labels). Without labels take one of "
                f"{sorted(LABEL_FREE)}."
            )
        target = Task(next(iter(prompts.values())).text_of(X), y, kind="label")
        check_label_spaces({"prompts": names}, target.targets.names, remedy=OF_PROMPTS)
        target = target.with_classes(names)
        if strange := sorted(set(target.targets.names) - set(names)):
            raise LabelMismatchError(
                f"the data set has the labels {strange}, which no prompt can answer; "
                f"the prompts have {names}. Add these labels to every prompt, or leave "
                "their rows out."
            )
        return target

    def _embedded_scores(
        self, prompts: dict[str, Any], X: Any, target: Task
    ) -> np.ndarray:
        texts = X if self.texts is None else self.texts
        make = EMBEDDED[self.criterion_]
        embedder = make() if self.embedder is None else clone(self.embedder)
        # Scores count answers, so that students learn these rather than probabilities.
        answers = self.criterion_ in ("student", "moment")
        labelled = []
        for name, prompt in prompts.items():
            method = "predict" if answers else _response(prompt)
            wrapper = MTEWrapper(prompt, name=name, response_method=method)
            labelled.append(wrapper.label(texts).with_classes(target.classes))
        if self.criterion_ == "student":
            ranker = StudentRanker(embedder, scoring=self.scoring)
            ranker.fit(labelled, names=self.prompt_names_)
            return ranker.decision_function([target])[0]
        vectorizer = TaskVectorizer(embedder).fit([*labelled, target])
        vectors = vectorizer.embeddings_
        metric = "dot" if self.criterion_ == "moment" else "cosine"
        return ModelRanker(metric).fit(vectors[:-1]).decision_function(vectors[-1:])[0]

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the chosen prompt, which identifies its cached predictions."""
        return self._best().fingerprint

    def _best(self) -> Any:
        check_is_fitted(self, "ranking_")
        if not hasattr(self, "best_prompt_"):
            candidates, name = self._candidates(), self.ranking_[0]
            if name not in candidates:
                raise ValueError(
                    f"the chosen prompt {name!r} is not among those that were set, "
                    f"{list(candidates)}; set the prompts of the fit, or fit again."
                )
            labels = sorted(map(label_name, candidates[name].labels))
            if labels != sorted(map(label_name, self.classes_)):
                raise LabelMismatchError(
                    f"the prompt {name!r} has the labels {labels}, that of the fit had "
                    f"{list(self.classes_)}."
                )
            self.best_prompt_ = candidates[name]
        return self.best_prompt_

    def __deepcopy__(self, memo: dict[int, Any]) -> PromptSelector:
        """Copy the fit; prompts are kept by reference, as their clients may be open."""
        other = type(self)(**self.get_params(deep=False))
        other.__dict__.update(self.__dict__)
        return other

    def predict(self, X: Any) -> np.ndarray:
        """Label texts with the chosen prompt.

        Parameters
        ----------
        X : sequence of str or of records of length n_samples
            The texts.

        Returns
        -------
        y : ndarray (n_samples,)
            The best prompt's labels.
        """
        return self._best().predict(X)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict probabilities of the labels with the chosen prompt.

        Parameters
        ----------
        X : sequence of str or of records of length n_samples
            The texts.

        Returns
        -------
        proba : ndarray (n_samples, n_classes)
            Columns as ``classes_``.
        """
        return self._best().predict_proba(X)

    def score(self, X: Any, y: Any) -> float:
        """Accuracy of the chosen prompt, with labels compared by name.

        Parameters
        ----------
        X : sequence of str or of records of length n_samples
            Texts.
        y : sequence of length n_samples
            Their labels.

        Returns
        -------
        score : float
            Share of the texts that get their label.
        """
        return self._best().score(X, y)

    def ranking_score(self, X: Any, y: Any) -> float:
        """NDCG of the ranking against the prompts' true accuracies.

        Parameters
        ----------
        X : sequence of str or of records of length n_samples
            Texts; every prompt is run on them.
        y : sequence of length n_samples
            Their labels.

        Returns
        -------
        score : float
            Linear-gain NDCG; that of a random ranking is often above .8.
        """
        check_is_fitted(self, "ranking_")
        gains = [prompt.score(X, y) for prompt in self._candidates().values()]
        return ndcg_score([gains], self.scores_[None])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.target_tags.required = self.criterion in (LABEL_PROBABILITY, *EMBEDDED)
        return tags


def _tells_probabilities(prompt: Any) -> bool:
    return bool({"score", "bounds", "frequencies"} & set(prompt.client.capabilities))


def _response(prompt: Any) -> str:
    return "predict_proba" if _tells_probabilities(prompt) else "predict"


def _label_evidence(prompts: list[Any], X: Any, criterion: str) -> np.ndarray:
    """Label probabilities, or choices where a criterion looks at no more than these.

    Texts that any prompt has no answer for are left out.
    """
    if criterion in OF_CHOICES and not all(map(_tells_probabilities, prompts)):
        found = np.array([prompt.label_evidence(X) for prompt in prompts])
    else:
        found = np.exp(log_probabilities(prompts, X))
    known = np.isfinite(found).all((0, 2))
    if not known.any():
        raise ValueError("no text has an answer to every prompt.")
    return found[:, known]


def _warn_of_one_answer(proba: np.ndarray) -> None:
    """Warn where most prompts give nearly always the same label."""
    n_prompts, n_texts, n_labels = proba.shape
    if n_texts < FEW_TEXTS:
        return
    shares = np.eye(n_labels)[proba.argmax(2)].mean(1).max(1)
    constant = int((shares >= ONE_ANSWER).sum())
    if constant > n_prompts / 2:
        warnings.warn(
            f"{constant} of {n_prompts} prompts give nearly always one answer, so that "
            "criteria without labels may favour prompts that agree in a mistake. "
            "Calibrate them (PromptedLLM has calibration), take 'zps_calibrated', or "
            "give some labels",
            stacklevel=find_stack_level(),
        )


def _right_probabilities(prompts: dict[str, Any], X: Any, target: Task) -> np.ndarray:
    """Mean probability of the right label, on the rows that every prompt answers."""
    several = list(prompts.values())
    if all(map(_tells_probabilities, several)):
        found = np.exp(log_probabilities(several, X))
    else:
        found = np.array([prompt.label_evidence(X) for prompt in several])
    known = np.isfinite(found).all((0, 2))
    if not known.any():
        raise ValueError("no text has an answer to every prompt.")
    own = [label_name(label) for label in several[0].classes_]
    columns = [own.index(name) for name in target.targets.names]
    right = (found[:, :, columns] * target.targets.proba).sum(2)
    return right[:, known].mean(1)


def _named(prompts: list[Any]) -> dict[str, Any]:
    """Name prompts by what they say; what is said twice gets a number."""
    out: dict[str, Any] = {}
    for prompt in prompts:
        name = " ".join(filter(None, [prompt.template, prompt.cot]))
        count = sum(known.split(" #")[0] == name for known in out)
        out[f"{name} #{count + 1}" if count else name] = prompt
    return out


def _fluency(prompt: Any, X: Any) -> float:
    """Minus the mean perplexity of the filled prompts."""
    require(prompt.client, "score_text")
    found = prompt.client.score_text(prompt.content_of(X))
    known = [np.exp(-total / count) for total, count in found if count]
    if not known:
        raise ValueError(
            f"no filled prompt of {prompt.template!r} has two tokens, so that none has "
            "a perplexity."
        )
    return -float(np.mean(known))


def _description(prompt: Any) -> str:
    said = ", ".join(words[0] for words in prompt.label_strings())
    return " ".join(filter(None, [prompt.template, prompt.cot, f"({said})"]))


def _preferences(prompts: list[Any]) -> np.ndarray:
    """How the language model likes each prompt, one row per rotation of the list."""
    client, count = prompts[0].client, len(prompts)
    if any(prompt.client is not client for prompt in prompts):
        raise ValueError("self_select needs one client for all prompts.")
    require(client, "score")
    numbers = [f" {i + 1}" for i in range(count)]
    orders = [[(i + shift) % count for i in range(count)] for shift in range(count)]
    asked = [
        "Which of these prompts is the best one for a language model?\n"
        + "\n".join(f"{i + 1}. {_description(prompts[p])}" for i, p in enumerate(order))
        + "\nThe best prompt is number"
        for order in orders
    ]
    scores = np.array(client.score(asked, [numbers] * count), dtype=float)
    scores = softmax(scores, axis=1)
    out = np.empty((count, count))
    for row, order in enumerate(orders):
        out[row, order] = scores[row]
    return out
