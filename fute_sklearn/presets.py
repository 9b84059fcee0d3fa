"""The settings and the prompts of the FUTE paper, in one place."""

from __future__ import annotations

from typing import Any

__all__ = ["completion_prompts", "paper_prompts", "paper_settings"]

SURROGATE = "google-t5/t5-base"
CASES: dict[str, dict[str, Any]] = {
    "mte-language-model": {"max_length": 128, "batch_size": 128, "max_epochs": 1},
    "mte-llm": {"max_length": 496, "batch_size": 128, "max_epochs": 3},
    "dte-classification": {"max_length": 128, "batch_size": 32, "max_epochs": 120},
    "dte-qa": {"max_length": 384, "batch_size": 32, "max_epochs": 60},
}
TUNING_RATES = {
    "mte-language-model": 1e-3,
    "mte-llm": 1e-3,
    "dte-classification": 1e-2,
    "dte-qa": 5e-3,
}
FISHER_RATES = {**dict.fromkeys(CASES, 2e-5), "dte-qa": 3e-5}


def paper_settings(method: str, case: str) -> dict[str, Any]:
    """Return the parameters of an embedder as the authors of FUTE ran it.

    T5-base; AdamW with weight decay 0.01, gradients clipped at 1, a linear schedule
    with 5 % warm-up; prefixes of 16 positions with dropout 0.15; data sets are tuned
    until early stopping, models for a fixed number of epochs.  The defects of that
    code (untrained cross-attention prefixes, no seeds, the square of mean gradients)
    are not reproduced, and labels are scored over the label words.

    Parameters
    ----------
    method : {"tupate", "taskemb"}
        Parameters of `TuPaTEEmbedder` or `TaskEmbedder`.
    case : {"mte-language-model", "mte-llm", "dte-classification", "dte-qa"}
        Whether a model or a data set is embedded, and of which kind.

    Returns
    -------
    params : dict
        Keyword arguments.

    References
    ----------
    Wang et al. (2024), "Towards unified task embeddings across multiple models"
    (FUTE), appendix, and its public code.

    Examples
    --------
    >>> from fute_sklearn import TuPaTEEmbedder
    >>> from fute_sklearn.presets import paper_settings
    >>> est = TuPaTEEmbedder(**paper_settings("tupate", "dte-classification"))
    >>> est.learning_rate
    0.01
    """
    if method not in ("tupate", "taskemb"):
        raise ValueError(f"method={method!r}, expected 'tupate' or 'taskemb'.")
    if case not in CASES:
        raise ValueError(f"case={case!r}, expected one of {sorted(CASES)}.")
    shared = {"surrogate": SURROGATE, **CASES[case]}
    if method == "taskemb":
        # Early stopping belongs to tuning; three epochs are its usual length here.
        shared["max_epochs"] = min(shared["max_epochs"], 3)
        return {
            **shared,
            "learning_rate": FISHER_RATES[case],
            "fine_tuning": "full",
            "params": "all",
        }
    return {
        **shared,
        "tuning": "prompt",
        "prefix_length": 16,
        "learning_rate": TUNING_RATES[case],
        "weight_decay": 0.01,
        "warmup_fraction": 0.05,
        "dropout": 0.15,
        "clip_norm": 1.0,
        "early_stopping": case.startswith("dte"),
    }


REASON = "Reason step by step before answering."
YES_NO = {"positive": "Yes", "negative": "No"}
# Template and what the model says for each label, from Tables A1 and A2.
SENTIMENT: list[tuple[str, dict[str, str]]] = [
    (
        "Does the movie review below make someone want to watch it? {text}",
        YES_NO,
    ),
    (
        "{text} How does the viewer feel about the movie?",
        {"positive": "positive", "negative": "negative"},
    ),
    ("{text} Did the reviewer enjoy the movie?", YES_NO),
    (
        "Does it seem like the reviewer who wrote this review liked the movie? {text}",
        YES_NO,
    ),
    ("Is the movie review below positive? {text}", YES_NO),
    (
        "{text} Did the reviewer find this movie good or bad?",
        {"positive": "good", "negative": "bad"},
    ),
    (
        "{text} Is this review positive or negative?",
        {"positive": "positive", "negative": "negative"},
    ),
    (
        "{text} This is definitely not a positive or negative review",
        {"positive": "positive", "negative": "negative"},
    ),
]
SENTIMENT_ORDER = (0, 1, 2, 3, 4, 5, 6, 7, 2, 5)  # the paper has two prompts twice


def _inference(*words: str) -> dict[str, str]:
    return dict(zip(("entailment", "contradiction", "neutral"), words, strict=True))


YES_NO_MAYBE = _inference("yes", "no", "maybe")
INFERENCE: list[tuple[str, dict[str, str]]] = [
    (
        "Given that {premise} Does it follow that {hypothesis} yes, no, or maybe?",
        YES_NO_MAYBE,
    ),
    (
        "{premise} Using only the above description and what you know about the "
        'world, "{hypothesis}" is definitely correct, incorrect, or uncertain?',
        _inference("correct", "incorrect", "uncertain"),
    ),
    (
        "{premise} Question: {hypothesis} true, false, or maybe?",
        _inference("true", "false", "maybe"),
    ),
    (
        "Take the following as truth: {premise} Then the following statement: "
        '"{hypothesis}" is true, false, or maybe?',
        _inference("true", "false", "maybe"),
    ),
    (
        '{premise} Question: Does this imply that "{hypothesis}"? Yes, no, or maybe?',
        YES_NO_MAYBE,
    ),
    (
        'Given {premise} Should we assume that "{hypothesis}" is true? Yes, no, or '
        "maybe?",
        YES_NO_MAYBE,
    ),
    (
        '{premise} Based on the previous passage, is it true that "{hypothesis}"? '
        "Yes, no, or maybe?",
        YES_NO_MAYBE,
    ),
    (
        '{premise} Are we justified in saying that "{hypothesis}"? yes, no, or maybe?',
        YES_NO_MAYBE,
    ),
    (
        'Suppose it\'s true that {premise} Then, is "{hypothesis}" always, sometimes, '
        "or never true?",
        _inference("always", "never", "sometimes"),
    ),
    (
        'Given {premise} Is it guaranteed true that "{hypothesis}"? yes, no, or maybe?',
        YES_NO_MAYBE,
    ),
]

# Ours: texts that a language model goes on with, rather than questions.
GOOD_BAD = {"positive": "good", "negative": "bad"}
POLARITY = {"positive": "positive", "negative": "negative"}
SENTIMENT_COMPLETIONS: list[tuple[str, dict[str, str]]] = [
    ("{text} It was", {"positive": "great", "negative": "terrible"}),
    ("{text}\nAll in all, it was", GOOD_BAD),
    ("{text}\nSentiment:", POLARITY),
    ("{text}\nThis review is", POLARITY),
    ("{text} In short, I", {"positive": "loved", "negative": "hated"}),
    ("{text}\nWould you recommend it? Answer:", YES_NO),
    ("{text}\nThe writer was", {"positive": "pleased", "negative": "disappointed"}),
    ("{text}\nOn the whole: a", {"positive": "success", "negative": "failure"}),
    ("{text}\nMy verdict: thumbs", {"positive": "up", "negative": "down"}),
    ("Tell good reviews from bad ones.\nReview: {text}\nVerdict:", GOOD_BAD),
]
INFERENCE_COMPLETIONS: list[tuple[str, dict[str, str]]] = [
    (
        "{premise}\nQuestion: {hypothesis} True, False, or Neither?\nAnswer:",
        _inference("True", "False", "Neither"),
    ),
    ("{premise}\nTherefore: {hypothesis}\nIs that so?", YES_NO_MAYBE),
    (
        "{premise}\nClaim: {hypothesis}\nThe claim is",
        _inference("supported", "refuted", "unproven"),
    ),
    (
        "{premise}\nIt follows that {hypothesis}\nThis conclusion is",
        _inference("right", "wrong", "doubtful"),
    ),
    (
        "{premise}\nStudent: {hypothesis}\nTeacher: That is",
        _inference("correct", "incorrect", "possible"),
    ),
    (
        "{premise}\nDoes the text say that {hypothesis}\nAnswer:",
        _inference("Yes", "No", "Maybe"),
    ),
    (
        "{premise}\nIn other words: {hypothesis}\nThis summary is",
        _inference("true", "false", "unclear"),
    ),
    (
        "{premise}\nKnowing this, the statement that {hypothesis} is",
        _inference("certain", "impossible", "possible"),
    ),
    (
        "{premise}\n{hypothesis}\nDo the two sentences agree? Answer:",
        _inference("Yes", "No", "Maybe"),
    ),
    (
        "Premise: {premise}\nHypothesis: {hypothesis}\nRelation:",
        _inference("entailment", "contradiction", "neutral"),
    ),
]


def _arguments(rows: list[tuple[str, dict[str, str]]]) -> list[dict[str, Any]]:
    return [
        {"template": template, "labels": list(words), "verbalizer": dict(words)}
        for template, words in rows
    ]


def _check_kind(task: str) -> None:
    if task not in ("sentiment", "inference"):
        raise ValueError(f"task={task!r}, expected 'sentiment' or 'inference'.")


def completion_prompts(task: str) -> list[dict[str, Any]]:
    """Return ten prompts of our own that a language model simply goes on with.

    Most start with the text, so that a client that reads shared beginnings once reads
    it once for all of them.

    Parameters
    ----------
    task : {"sentiment", "inference"}
        As in `paper_prompts`.

    Returns
    -------
    prompts : list of dict
        ``template``, ``labels`` and ``verbalizer``: keyword arguments of
        `PromptedLLM`.

    Raises
    ------
    ValueError
        If the task is neither.

    Examples
    --------
    >>> from fute_sklearn.presets import completion_prompts
    >>> completion_prompts("sentiment")[0]["template"]
    '{text} It was'
    """
    _check_kind(task)
    return _arguments(
        SENTIMENT_COMPLETIONS if task == "sentiment" else INFERENCE_COMPLETIONS
    )


def paper_prompts(task: str) -> list[dict[str, Any]]:
    """Return the 13 prompts that the FUTE paper compares on a kind of task.

    Prompts 11 to 13 are the first three with reasoning.  Sentiment prompts 9 and 10
    are 3 and 6 once more, as in the paper's table.  The words that stand for the
    labels follow from each question; the paper names none.

    Parameters
    ----------
    task : {"sentiment", "inference"}
        Texts in ``{text}`` with the labels positive and negative, or pairs in
        ``{premise}`` and ``{hypothesis}`` with entailment, contradiction and neutral.

    Returns
    -------
    prompts : list of dict
        ``template``, ``labels``, ``verbalizer`` and, with reasoning, ``cot``: keyword
        arguments of `PromptedLLM`.

    References
    ----------
    Wang et al. (2024), FUTE, Tables A1 and A2.

    Examples
    --------
    >>> from fute_sklearn.presets import paper_prompts
    >>> prompts = paper_prompts("sentiment")
    >>> len(prompts), prompts[4]["template"]
    (13, 'Is the movie review below positive? {text}')
    """
    _check_kind(task)
    asked = [SENTIMENT[i] for i in SENTIMENT_ORDER]
    prompts = _arguments(asked if task == "sentiment" else INFERENCE)
    return prompts + [{**prompt, "cot": REASON} for prompt in prompts[:3]]
