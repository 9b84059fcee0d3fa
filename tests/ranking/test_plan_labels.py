"""Which models and rows to label next, and the loop that asks them."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from fute_sklearn import (
    MomentEmbedder,
    MTEWrapper,
    ScorePosterior,
    add_labels,
    explain,
    plan_labels,
    rank_models,
    settle_ranking,
)
from fute_sklearn.exceptions import LabelMismatchError, ModelLabelWarning
from fute_sklearn.ranking._plan_labels import knowledge_gradient

from .test_confidence import Noisy, film_texts


class Counted(Noisy):
    def __init__(self, share, seed):
        super().__init__(share, seed)
        self.asked = []

    def predict(self, X):
        self.asked += X
        return super().predict(X)


@pytest.fixture(scope="module")
def films():
    return film_texts(300, 0), film_texts(200, 1)


@pytest.fixture(scope="module")
def models():
    return {
        **{f"good {i}": Noisy(0.1 + 0.02 * i, i) for i in range(4)},
        **{f"bad {i}": Noisy(0.5, 10 + i) for i in range(8)},
    }


@pytest.fixture(scope="module")
def ranking(models, films):
    (texts, _), (X, y) = films
    return rank_models(models, X, y, texts=texts, embedder=MomentEmbedder())


def test_the_knowledge_gradient_of_two_models():
    """Against the formula for one normal difference."""
    covariance = np.diag([0.04, 0.0])
    posterior = ScorePosterior(("a", "b"), np.array([0.5, 0.55]), covariance)
    found = knowledge_gradient(posterior, np.array([0.2, 0.2]), 5)
    spread = 0.04 / np.sqrt(0.04 + 0.2 / 5)
    z = -0.05 / spread
    expected = spread * (norm.pdf(z) + z * norm.cdf(z))
    assert found[0] == pytest.approx(expected, rel=0.1)
    assert found[1] == pytest.approx(0, abs=1e-12)
    shared = ScorePosterior(("a", "b"), np.array([0.5, 0.5]), np.full((2, 2), 0.04))
    np.testing.assert_allclose(
        knowledge_gradient(shared, np.full(2, 0.2), 5), 0, atol=1e-12
    )


def test_contenders_are_asked_the_same_rows(ranking):
    plan = plan_labels(ranking, 60, n_rows=5)
    assert plan["cost"].sum() <= 60
    assert set(plan["model"]) <= {f"good {i}" for i in range(4)}
    assert ranking.index[0] in set(plan["model"])
    rows = plan.groupby("model")["row"].agg(tuple)
    assert rows.nunique() == 1
    assert len(rows.iloc[0]) == 5
    assert list(plan["text"]) == [
        ranking.attrs["evidence"].scorer.task.texts[i] for i in plan["row"]
    ]
    pd.testing.assert_frame_equal(plan, plan_labels(ranking, 60, n_rows=5))
    other = plan_labels(ranking, 60, n_rows=5, random_state=1)
    assert set(other["row"]) != set(plan["row"])


def test_rows_that_were_answered_are_not_asked_again(ranking, models):
    plan = plan_labels(ranking, 1000)
    answers = pd.DataFrame(
        {
            name: pd.Series(models[name].predict(list(part["text"])), part["row"])
            for name, part in plan.groupby("model")
        }
    )
    more = plan_labels(add_labels(ranking, answers), 1000)
    before = set(zip(plan["model"], plan["row"], strict=True))
    assert not before & set(zip(more["model"], more["row"], strict=True))


def test_costs_count(ranking):
    first = ranking.index[0]
    dear = {name: 50.0 for name in ranking.index if name != first}
    plan = plan_labels(ranking, 120, costs=dear)
    assert plan["cost"].sum() <= 120
    assert plan["model"].nunique() == 2
    assert plan_labels(ranking, 40, costs=dear).empty
    cheap = ranking.index[1]
    plan = plan_labels(ranking, 1000, costs={cheap: 1e-3})
    assert plan["model"].iloc[0] == cheap
    assert set(plan["model"]) == {first, cheap}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 0}, "budget=0"),
        ({"budget": True}, "budget=True"),
        ({"budget": 1, "n_rows": 0}, "n_rows=0"),
        ({"budget": 1, "costs": {"strange": 1}}, "costs names"),
        ({"budget": 1, "costs": {"good 0": -1}}, "is -1; expected a finite number"),
        ({"budget": 1, "costs": {"good 0": "much"}}, "is 'much'; expected a finite"),
        ({"budget": 1, "costs": {"good 0": None}}, "is None; expected a finite"),
        ({"budget": 1, "costs": {1: 1, "x": 2}}, r"costs names \['1', 'x'\]"),
    ],
)
def test_wrong_plans(options, message, ranking):
    with pytest.raises(ValueError, match=message):
        plan_labels(ranking, **options)


def test_the_loop_stops_when_one_model_is_left(films):
    (texts, _), (X, y) = films
    models = {"right": Counted(0.2, 0), "close": Counted(0.25, 1)}
    table = rank_models(models, X, y, texts=texts, embedder=MomentEmbedder())
    for model in models.values():
        model.asked.clear()
    found = settle_ranking(table, models, 10_000, level=0.99)
    asked = sum(len(model.asked) for model in models.values())
    assert asked
    assert found.attrs["spent"] == asked
    one_left = len(found.attrs["posterior"].shortlist(0.99)) == 1
    assert one_left == (asked < 400)
    answers = found.attrs["answers"].frame
    assert answers.notna().sum().sum() == asked
    again = add_labels(table, answers)
    pd.testing.assert_frame_equal(again, found)


def test_the_budget_is_kept_and_settles(ranking, models):
    found = settle_ranking(ranking, models, 200)
    assert found.attrs["spent"] <= 200
    before = ranking.attrs["posterior"].deviation
    assert (found.attrs["posterior"].deviation <= before + 1e-12).all()
    further = settle_ranking(found, models, 200)
    assert further.attrs["n_labelled"] >= found.attrs["n_labelled"]


def test_a_model_that_fails_is_not_asked_again(ranking, models):
    def broken(texts: list[str]) -> list[str]:
        raise RuntimeError("no more")

    best = ranking.index[0]
    some = {**models, best: MTEWrapper(broken, fingerprint="broken")}
    with pytest.warns(ModelLabelWarning, match="is not asked again"):
        found = settle_ranking(ranking, some, 100, level=0.999)
    answers = found.attrs["answers"].frame.notna().sum()
    assert answers[best] == 0
    # The others are asked all the same; what failed is charged, as it may be paid for.
    assert found.attrs["spent"] == answers.sum() + 8 == 100
    with pytest.raises(ValueError, match="models lacks"):
        settle_ranking(ranking, {"good 0": models["good 0"]}, 100)


def test_earlier_answers_are_kept(films, models):
    (texts, _), (X, y) = films
    options = {"texts": texts, "embedder": MomentEmbedder()}
    plain = rank_models(models, X, y, **options)
    before = rank_models(models, X, y, **options, n_labelled=10)
    found = settle_ranking(before, models, 24, n_rows=2, level=0.9999)
    answers = found.attrs["answers"].frame
    assert (answers.notna().sum() >= 10).all()
    assert answers.notna().sum().sum() == 120 + found.attrs["spent"]
    pd.testing.assert_frame_equal(add_labels(plain, answers), found)


def test_rows_without_an_answer_were_asked(ranking, models):
    best = ranking.index[0]

    def shy(texts: list[str]) -> list[str | None]:
        found = models[best].predict(texts)
        return [None if "film" in t else f for t, f in zip(texts, found, strict=True)]

    some = {**models, best: MTEWrapper(shy, fingerprint="shy", abstentions="drop")}
    with pytest.warns(ModelLabelWarning, match="dropped") as caught:
        found = settle_ranking(ranking, some, 200, n_rows=20, level=0.9999)
    assert not [one for one in caught if "not asked again" in str(one.message)]
    rows = found.attrs["answered"]
    place = found.attrs["evidence"].names.index(best)
    assert rows.silent[place]
    assert not rows.silent[place] & set(rows.labels[place])


def test_answers_in_other_labels_are_refused(ranking, models):
    answers = pd.DataFrame({"good 0": ["Good", "Bad"]})
    with pytest.raises(LabelMismatchError, match=r"answers \['Bad', 'Good'\] to lab"):
        add_labels(ranking, answers)

    def other(texts: list[str]) -> list[str]:
        return [one.title() for one in models["good 0"].predict(texts)]

    some = {**models, ranking.index[0]: MTEWrapper(other, fingerprint="other")}
    with pytest.warns(ModelLabelWarning, match="not asked again: .*'Bad'"):
        settle_ranking(ranking, some, 100)


def test_label_names_of_the_ranking_hold(films):
    (texts, _), (X, y) = films
    names = {"good": "pos", "bad": "neg"}

    def other(found: list[str]) -> list[str]:
        return [names[one] for one in Noisy(0.2, 0).predict(found)]

    models = {"other": other, "close": Noisy(0.25, 1)}
    back = {"other": {"pos": "good", "neg": "bad"}}
    options = {"texts": texts, "embedder": MomentEmbedder(), "label_names": back}
    table = rank_models(models, X, y, **options)
    found = settle_ranking(table, models, 40, level=0.9999)
    assert found.loc["other", "labelled_score"] > 0.5


def test_models_that_give_probabilities(films):
    (texts, _), (X, y) = films

    def proba(found: list[str]) -> np.ndarray:
        good = np.array(Noisy(0.2, 0).predict(found)) == "good"
        return np.where(good[:, None], [0.2, 0.8], [0.8, 0.2])

    def wrapper(name):
        return MTEWrapper(
            proba,
            response_method="predict_proba",
            classes=["bad", "good"],
            fingerprint=name,
        )

    models = {"a": wrapper("a"), "b": Noisy(0.21, 3)}
    table = rank_models(models, X, y, texts=texts, embedder=MomentEmbedder())
    found = settle_ranking(table, models, 20, level=0.9999)
    assert set(found.attrs["answers"].frame["a"].dropna()) <= {"good", "bad"}
    add_labels(table, found.attrs["answers"].frame)


def test_models_that_cannot_be_asked_are_told_before_any_is(ranking, models):
    counted = Counted(0.1, 0)
    some = {**models, "good 0": counted, "bad 0": object()}
    with pytest.raises((TypeError, AttributeError)):
        settle_ranking(ranking, some, 100)
    assert counted.asked == []


def test_a_table_without_its_index_is_refused(ranking):
    with pytest.raises(ValueError, match="holds none of its models"):
        add_labels(ranking.reset_index(drop=True), pd.DataFrame({"good 0": ["good"]}))


@pytest.mark.parametrize("index", [[True, False], [0.5, 1.5]])
def test_an_index_of_other_kinds_is_refused(index, ranking):
    with pytest.raises(ValueError, match="holds no positions"):
        add_labels(ranking, pd.DataFrame({"good 0": ["good", "bad"]}, index))
    twice = pd.DataFrame([["good", "good"]], columns=["good 0", "good 0"])
    with pytest.raises(ValueError, match="in two columns"):
        add_labels(ranking, twice)


def test_answers_of_a_model_that_failed_are_passed_over(films, models):
    def broken(texts: list[str]) -> list[str]:
        raise RuntimeError("no more")

    (texts, _), (X, y) = films
    answers = pd.DataFrame({"good 0": y[:20], "broken": y[:20]})
    with pytest.warns(ModelLabelWarning):
        table = rank_models(
            {**models, "broken": broken},
            X,
            y,
            texts=texts,
            embedder=MomentEmbedder(),
            labelled=answers,
        )
    assert table.loc["good 0", "labelled_score"] == 1
    assert np.isnan(table.loc["broken", "score"])


def test_dear_models_are_left_out_of_a_small_budget(ranking):
    first = ranking.index[0]
    plan = plan_labels(ranking, 3, costs={first: 1000})
    assert len(plan)
    assert first not in set(plan["model"])
    some = plan_labels(ranking, 3, costs=pd.Series({first: 1000.0}))
    pd.testing.assert_frame_equal(some, plan)


def test_the_others_are_asked_when_the_favourites_have_answered_all(ranking, models):
    found = settle_ranking(ranking, models, float("inf"), level=0.9999999)
    left = found.attrs["posterior"].shortlist(0.9999999)
    answers = found.attrs["answers"].frame.notna().sum()
    n_rows = ranking.attrs["evidence"].scorer.task.n_samples
    assert len(left) == 1 or (answers[left] == n_rows).all()


def test_a_pair_that_can_be_paid_for_is_asked(ranking):
    best, *rest = ranking.index
    costs = {best: 50.0} | {name: 2.0 + i for i, name in enumerate(rest)}
    plan = plan_labels(ranking, 7, costs=costs, level=0.9999)
    assert 0 < plan["cost"].sum() <= 7
    tenths = dict.fromkeys(ranking.index, 0.1)
    few = plan_labels(ranking, 0.6, costs=tenths, level=0.9999)
    assert len(few) == len(plan_labels(ranking, 6, level=0.9999))


def test_a_table_without_its_index_is_refused_before_models_are_asked(ranking):
    def ask(texts: list[str]) -> list[str]:
        raise AssertionError("asked")

    models = {name: MTEWrapper(ask, fingerprint=name) for name in ranking.index}
    with pytest.raises(ValueError, match="index of ranking holds none"):
        settle_ranking(ranking.reset_index(), models, 10, level=0.999)


@pytest.mark.parametrize("costs", ["x", [1.0, 2.0], 5])
def test_costs_are_by_model(costs, ranking):
    with pytest.raises(TypeError, match="expected a dict of the models' names"):
        plan_labels(ranking, 4, costs=costs)


def test_models_named_by_numbers(films):
    (texts, _), (X, y) = films
    models = {0: Noisy(0.3, 0), 1: Noisy(0.3, 1)}
    table = rank_models(models, X, y, texts=texts, embedder=MomentEmbedder())
    plan = plan_labels(table, 6, costs={0: 2.0})
    assert set(plan.loc[plan["model"] == "0", "cost"]) <= {2.0}
    assert plan["cost"].max() == 2.0
    pd.testing.assert_frame_equal(explain(table, 0, 1), explain(table, "0", "1"))
