"""Hyperparameters and prompts of the FUTE paper (Wang et al. 2024)."""

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
    """Return the hyperparameters that the FUTE paper uses for an embedder.

    The surrogate is T5-base.  For TuPaTE: AdamW with weight decay 0.01, gradients
    clipped at norm 1, a linear schedule with 5 % warm-up, and prefixes of 16 positions
    with dropout 0.15; data sets are tuned with early stopping, models for a fixed
    number of epochs.  Three properties of the authors' code are not reproduced:
    untrained cross-attention prefixes, missing seeds, and squared mean gradients in
    place of mean squared ones.  Label probabilities are normalised over the labels.

    Parameters
    ----------
    method : {"tupate", "taskemb"}
        Whether to return parameters of `TuPaTEEmbedder` or of `TaskEmbedder`.
    case : {"mte-language-model", "mte-llm", "dte-classification", "dte-qa"}
        What is embedded: a fine-tuned language model or a prompted LLM (model task
        embedding, MTE), or a classification or question answering data set (data set
        task embedding, DTE).

    Returns
    -------
    params : dict
        Keyword arguments of the embedder.

    Raises
    ------
    ValueError
        If ``method`` or ``case`` is unknown.

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
        # TaskEmbedder has no early stopping, so its default of 3 epochs is the limit.
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
        "space": "parameters",
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
# Templates of Tables A1 and A2, each with a verbalizer (label to answer) of our own.
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
SENTIMENT_ORDER = (0, 1, 2, 3, 4, 5, 6, 7, 2, 5)  # Table A1 lists two prompts twice


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

# Not from the paper: prompts to be continued with a label word, for base models.
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
    """Return ten completion prompts, which a label word continues.

    They are not from the paper.  Most start with the text, so that
    `TransformersClient`, which computes a common beginning of contexts once, processes
    each text once for all of these prompts.

    Parameters
    ----------
    task : {"sentiment", "inference"}
        Kind of the task; see `paper_prompts`.

    Returns
    -------
    prompts : list of dict
        ``template``, ``labels`` and ``verbalizer``: keyword arguments of
        `PromptedLLM`.

    Raises
    ------
    ValueError
        If ``task`` is unknown.

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

    Prompts 11 to 13 are the first three with a chain-of-thought instruction.  Sentiment
    prompts 9 and 10 repeat 3 and 6, as in the paper's table.  The paper gives no
    verbalizers; they were derived from the questions.

    Parameters
    ----------
    task : {"sentiment", "inference"}
        ``"sentiment"``: the template has the field ``{text}``, the labels are positive
        and negative.  ``"inference"``: the fields are ``{premise}`` and
        ``{hypothesis}``, the labels entailment, contradiction and neutral.

    Returns
    -------
    prompts : list of dict
        ``template``, ``labels``, ``verbalizer`` and, for chain of thought, ``cot``:
        keyword arguments of `PromptedLLM`.

    Raises
    ------
    ValueError
        If ``task`` is unknown.

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
