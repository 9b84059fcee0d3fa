"""One interface over all criteria that choose a prompt."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone

from fute_sklearn import (
    MomentEmbedder,
    PromptedLLM,
    PromptSelector,
    TuPaTEEmbedder,
)
from fute_sklearn.exceptions import (
    ClientCapabilityError,
    LabelMismatchError,
    LabelMismatchWarning,
)
from fute_sklearn.llm import criteria
from fute_sklearn.metrics import ndcg_score
from fute_sklearn.presets import paper_prompts
from fute_sklearn.testing import TINY_SURROGATE as TINY

TEXTS = [
    "a fine film",
    "a dull film",
    "fine food",
    "dull and grey",
    "what a fine day",
    "so dull",
]
LABELS = ["good", "bad"] * 3


class Client:
    """Reads "fine" and "dull" as well as the prompt's first word lets it."""

    capabilities = frozenset({"score", "score_text"})
    fingerprint = "client"
    skill = {"Sharp": 3.0, "Blunt": 0.5, "Wrong": -2.0}

    def score(self, contexts, continuations):
        out = []
        for context, options in zip(contexts, continuations, strict=True):
            if options[0] == " 1":  # likes the first number, and "Sharp"
                lines = context.splitlines()[1:-1]
                out.append(
                    np.array([("Sharp" in li) - 0.1 * i for i, li in enumerate(lines)])
                )
                continue
            sign = ("fine" in context) - ("dull" in context)
            good = self.skill[context.split()[0]] * sign
            out.append(np.array([good if o == " good" else -good for o in options]))
        return out

    def score_text(self, texts):
        return [(-float(len(text)), len(text.split())) for text in texts]


@pytest.fixture
def prompts():
    client = Client()
    return {
        name: PromptedLLM(client, f"{name} {{text}}", labels)
        for name, labels in [
            ("Wrong", ["good", "bad"]),
            ("Sharp", ["bad", "good"]),  # another order, the same labels
            ("Blunt", ["good", "bad"]),
        ]
    }


def proba(prompts):
    return np.stack([p.predict_proba(TEXTS) for p in prompts.values()])


@pytest.mark.parametrize("name", criteria.__all__)
def test_label_free_criteria_see_labels_by_name(name, prompts):
    found = PromptSelector(prompts, name).fit(TEXTS)
    expected = getattr(criteria, name)(proba(prompts))
    np.testing.assert_allclose(found.scores_, expected)
    assert found.prompt_names_.tolist() == ["Wrong", "Sharp", "Blunt"]
    order = np.argsort(-expected, kind="stable")
    np.testing.assert_array_equal(found.ranking_, found.prompt_names_[order])


@pytest.mark.parametrize(
    ("criterion", "embedder"),
    [
        ("moment", MomentEmbedder(TINY, reference=TEXTS)),
        ("student", MomentEmbedder(TINY, reference=TEXTS)),
        ("tupate", TuPaTEEmbedder(TINY, max_epochs=1)),
        ("taskemb", None),
    ],
)
def test_embeddings_compare_prompts_with_the_target(criterion, embedder, prompts):
    if embedder is None:
        from fute_sklearn import TaskEmbedder

        embedder = TaskEmbedder(TINY)
    selector = PromptSelector(prompts, criterion, embedder=embedder)
    found = selector.fit(TEXTS, LABELS)
    assert sorted(found.ranking_) == sorted(prompts)
    if criterion in ("moment", "student"):
        assert found.ranking_[-1] == "Wrong"
    if criterion == "moment":  # which does not see how sure a prompt is
        sharp, blunt = found.scores_[1:]
        assert sharp == pytest.approx(blunt)
    with pytest.raises(ValueError, match="fit.texts, labels."):
        clone(selector).fit(TEXTS)
    with pytest.raises(ValueError, match="verbalizer="):
        clone(selector).fit(TEXTS, ["pos", "neg"] * 3)


def test_iterators_of_texts_serve_all_prompts(prompts):
    whole = PromptSelector(prompts, "global_entropy").fit(TEXTS)
    streamed = PromptSelector(prompts, "global_entropy").fit(iter(TEXTS))
    np.testing.assert_array_equal(whole.scores_, streamed.scores_)


def test_labels_of_target_and_prompts_are_compared(prompts):
    embedder = MomentEmbedder(TINY, reference=TEXTS)
    selector = PromptSelector(prompts, "moment", embedder=embedder)
    with pytest.raises(LabelMismatchError, match="case, spaces.*PromptedLLM"):
        selector.fit(TEXTS, ["Good", "bad"] * 3)
    with pytest.raises(LabelMismatchError, match=r"\['so so'\], which no prompt"):
        with pytest.warns(LabelMismatchWarning, match="never answers .'so so'."):
            selector.fit(TEXTS, ["good", "bad", "so so"] * 2)
    # A label that does not occur in the target's rows is one all the same.
    with pytest.warns(LabelMismatchWarning, match="unknown to the target"):
        selector.fit(TEXTS, ["good"] * 6)
    assert np.isfinite(selector.scores_).all()


def test_fluency_is_minus_the_mean_perplexity(prompts):
    found = PromptSelector(prompts, "spell").fit(TEXTS)
    filled = [f"Wrong {text}" for text in TEXTS]
    expected = -np.mean([np.exp(len(f) / len(f.split())) for f in filled])
    assert found.scores_[0] == pytest.approx(expected)


def test_the_model_is_asked_in_every_order(prompts):
    found = PromptSelector(prompts, "self_select").fit(TEXTS)
    assert found.ranking_[0] == "Sharp"
    assert found.order_spread_ > 0
    np.testing.assert_allclose(found.scores_.sum(), 1)
    # The other two are liked alike once the order is averaged out.
    assert found.scores_[0] == pytest.approx(found.scores_[2], rel=1e-3)


def test_prediction_and_score(prompts):
    found = PromptSelector(prompts, "mutual_information").fit(TEXTS)
    chosen = prompts[found.ranking_[0]]
    np.testing.assert_array_equal(found.predict(TEXTS), chosen.predict(TEXTS))
    gains = [np.mean(p.predict(TEXTS) == LABELS) for p in prompts.values()]
    assert gains == [0, 1, 1]
    expected = ndcg_score([gains], found.scores_[None])
    assert found.ranking_score(TEXTS, LABELS) == pytest.approx(expected)
    assert found.score(TEXTS, LABELS) == gains[list(prompts).index(found.ranking_[0])]
    np.testing.assert_array_equal(
        found.predict_proba(TEXTS), chosen.predict_proba(TEXTS)
    )


def test_a_selector_is_searched_and_piped_like_any_classifier(prompts):
    """Prompts are kept by reference; the criterion is a parameter as any other."""
    from sklearn.model_selection import GridSearchCV, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    embedder = MomentEmbedder(TINY, reference=TEXTS)
    selector = PromptSelector(prompts, embedder=embedder)
    search = GridSearchCV(
        selector, {"criterion": ["moment", "local_entropy"]}, cv=2
    ).fit(TEXTS, LABELS)
    assert search.best_params_ == {"criterion": "moment"}
    assert search.best_estimator_.prompts is prompts
    pipe = make_pipeline(FunctionTransformer(list), selector)
    assert np.isfinite(cross_val_score(pipe, TEXTS, LABELS, cv=2)).all()


def test_prompts_are_run_on_the_texts_that_are_given(prompts):
    """On other texts than the data set's, no prompt sees the data set."""
    seen = []
    client = prompts["Sharp"].client

    class Spy(Client):
        fingerprint = "spy"

        def score(self, contexts, continuations):
            seen.extend(contexts)
            return client.score(contexts, continuations)

    spied = {n: clone(p).set_params(client=Spy()) for n, p in prompts.items()}
    embedder = MomentEmbedder(TINY, reference=TEXTS)
    selector = PromptSelector(spied, "moment", texts=TEXTS[:3], embedder=embedder)
    selector.fit(["fine wine", "a dull day"], ["good", "bad"])
    assert {text.split(" ", 1)[1] for text in seen} == set(TEXTS[:3])


def test_sequences_are_named_by_template(prompts):
    found = PromptSelector(list(prompts.values()), "local_entropy").fit(TEXTS)
    assert found.ranking_[0] == "Blunt {text}"
    twice = PromptSelector([prompts["Sharp"]] * 2, "local_entropy").fit(TEXTS)
    assert twice.prompt_names_.tolist() == ["Sharp {text}", "Sharp {text} #2"]


def test_keys_of_any_type_name_prompts(prompts):
    found = PromptSelector(dict(enumerate(prompts.values())), "local_entropy").fit(
        TEXTS
    )
    assert found.ranking_[0] == "2"
    found.predict(TEXTS)


def test_pickles_hold_no_client(prompts):
    prompts["Sharp"].client.secret = "sk-secret"
    found = PromptSelector(prompts, "local_entropy").fit(TEXTS)
    data = pickle.dumps(found)
    assert b"sk-secret" not in data
    again = pickle.loads(data)
    assert again.ranking_.tolist() == found.ranking_.tolist()
    with pytest.raises(ValueError, match="not part of a pickle"):
        again.predict(TEXTS)
    again.set_params(prompts=prompts)
    np.testing.assert_array_equal(again.predict(TEXTS), found.predict(TEXTS))


class Reasoning(Client):
    """Takes any prompt, and writes a reason where it is asked for one."""

    capabilities = frozenset({"score", "score_text", "generate"})

    def score(self, contexts, continuations):
        return [np.zeros(len(options)) for options in continuations]

    def generate(self, prompts, max_tokens):
        return ["so"] * len(prompts)


def test_records_and_prompts_with_reasoning():
    client = Reasoning()
    prompts = [PromptedLLM(client, **p) for p in paper_prompts("inference")]
    rows = [{"premise": "It rains.", "hypothesis": "It is wet."}] * 3
    for criterion in ("global_entropy", "spell", "self_select"):
        found = PromptSelector(prompts, criterion).fit(rows)
        assert len(set(found.prompt_names_)) == 13
    scores = PromptSelector(prompts, "spell").fit(rows).scores_
    assert (scores[10:] != scores[:3]).all()


def test_bad_candidates_are_refused(prompts):
    with pytest.raises(ValueError, match="no prompts"):
        PromptSelector({}).fit(TEXTS)
    other = clone(prompts["Sharp"]).set_params(labels=["yes", "no"])
    with pytest.raises(ValueError, match="'other' has the labels"):
        PromptSelector({**prompts, "other": other}).fit(TEXTS)
    with pytest.raises(ValueError, match="criterion"):
        PromptSelector(prompts, "best").fit(TEXTS)
    prompts["Sharp"].client.__class__.capabilities = frozenset({"score"})
    try:
        with pytest.raises(ClientCapabilityError, match="score_text"):
            PromptSelector(prompts, "spell").fit(TEXTS)
    finally:
        Client.capabilities = frozenset({"score", "score_text"})
    away = clone(prompts["Blunt"]).set_params(client=Client())
    with pytest.raises(ValueError, match="one client"):
        PromptSelector({**prompts, "away": away}, "self_select").fit(TEXTS)


def test_self_select_numbers_the_prompts_from_one(prompts):
    asked = []
    client = prompts["Sharp"].client
    whole = client.score

    def score(contexts, continuations):
        asked.extend(contexts)
        return whole(contexts, continuations)

    client.score = score
    PromptSelector(prompts, "self_select").fit(TEXTS)
    for text in asked:
        lines = [line for line in text.splitlines() if "{text}" in line]
        assert [line.split(".")[0] for line in lines] == ["1", "2", "3"]


# The criterion "auto" -------------------------------------------------------------


def test_auto_takes_what_the_data_allow(prompts):
    closed = MomentEmbedder(TINY)
    own = PromptSelector(prompts, embedder=closed).fit(TEXTS, LABELS)
    assert own.criterion_ == "label_probability"
    assert own.ranking_.tolist() == ["Sharp", "Blunt", "Wrong"]
    rows = [[LABELS[i] == label for label in own.classes_] for i in range(len(TEXTS))]
    right = (proba(prompts) * np.array(rows)).sum(2).mean(1)
    np.testing.assert_allclose(own.scores_, right)
    other = [f"{text} again" for text in TEXTS]
    elsewhere = PromptSelector(prompts, texts=other, embedder=closed)
    assert elsewhere.fit(TEXTS, LABELS).criterion_ == "student"
    assert elsewhere.ranking_[-1] == "Wrong"
    free = PromptSelector(prompts).fit(TEXTS)
    assert free.criterion_ == "zps_calibrated"
    for found in (own, elsewhere, free):
        assert "labels" in found.reason_
    assert PromptSelector(prompts, "moment", embedder=closed).fit(
        TEXTS, LABELS
    ).reason_ == ("it was asked for")


def test_auto_without_probabilities():
    class Says(Client):
        capabilities = frozenset({"choose"})

        def choose(self, contexts, options):
            return ["good" if "fine" in context else "bad" for context in contexts]

    client = Says()
    prompts = {n: PromptedLLM(client, f"{n} {{text}}", ["good", "bad"]) for n in "ab"}
    free = PromptSelector(prompts).fit(TEXTS)
    assert free.criterion_ == "zps_vote"
    labelled = PromptSelector(prompts).fit(TEXTS, LABELS)
    assert labelled.scores_.tolist() == [1.0, 1.0]


def test_prompts_with_one_answer_are_told():
    class Stubborn(Client):
        skill = {"Sharp": 3.0, "Blunt": 0.5, "Wrong": -2.0}

        def score(self, contexts, continuations):
            found = super().score(contexts, continuations)
            return [
                f + np.array([o == " good" for o in os]) * 9.0
                for f, os in zip(found, continuations, strict=True)
            ]

    client = Stubborn()
    prompts = {
        name: PromptedLLM(client, f"{name} {{text}}", ["good", "bad"])
        for name in Client.skill
    }
    texts = [f"{text} {i}" for text in TEXTS for i in range(2)]
    with pytest.warns(UserWarning, match="3 of 3 prompts give nearly always one"):
        PromptSelector(prompts, "zps_vote").fit(texts)
    with pytest.warns(UserWarning, match="nearly always one"):
        found = PromptSelector(prompts).fit(texts)
    assert found.ranking_[-1] == "Wrong"
