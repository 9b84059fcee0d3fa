"""Answers that exist already: never joined wrongly, types as they are written."""

import warnings

import numpy as np
import pandas as pd
import pytest

from fute_sklearn import MTEWrapper
from fute_sklearn.exceptions import ModelLabelError, ModelLabelWarning

TEXTS = ["one", "two", "three", "four"]
LABELS = ["a", "b", "a", "b"]


def labels(answers, texts=TEXTS, **settings):
    return list(MTEWrapper(answers, **settings).label(texts).y)


def test_numbered_answers_are_not_joined_to_texts_with_another_index():
    """By index and by position they would be others, and neither is sure."""
    shuffled = pd.Series(TEXTS, index=[3, 2, 1, 0])
    for answers in (pd.Series(LABELS), pd.DataFrame({"label": LABELS})):
        with pytest.raises(ModelLabelError, match="by index or by position"):
            labels(answers, shuffled)
        assert labels(answers) == labels(answers, pd.Series(TEXTS)) == LABELS
    assert labels(LABELS, shuffled) == LABELS
    # The text with the index 3 is "one", whose answer is the second.
    given = pd.Series(LABELS, index=[0, 3, 2, 1])
    assert labels(given, shuffled) == ["b", "a", "b", "a"]


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_files_are_read_as_they_are_written(suffix, tmp_path):
    texts = ["007", "1.50", "NA", "null"]
    separator = "," if suffix == "csv" else "\t"

    def read(answers, **settings):
        path = tmp_path / f"answers.{suffix}"
        rows = [separator.join(pair) for pair in zip(texts, answers, strict=True)]
        path.write_text("\n".join([separator.join(["text", "label"]), *rows, ""]))
        return labels(str(path), texts, **settings)

    assert read(["01", "1", "01", "1"]) == ["01", "1", "01", "1"]
    assert read(["None", "NA", "None", "NA"]) == ["None", "NA", "None", "NA"]
    assert read(["1", "0", "1", "0"]) == [1, 0, 1, 0]
    assert read(["0.5", "1e-3", "2.0", "-1.5"]) == [0.5, 0.001, 2.0, -1.5]
    with pytest.warns(ModelLabelWarning):
        assert read(["1", "", "0", "1"], abstentions="drop") == [1, 0, 1]


def test_probabilities_in_a_file(tmp_path):
    path = tmp_path / "answers.csv"
    path.write_text("text,a,b\none,1,0\ntwo,0.25,0.75\nthree,0.5,0.5\nfour,0,1\n")
    task = MTEWrapper(path, response_method="predict_proba").label(TEXTS)
    np.testing.assert_allclose(task.targets.proba[:2], [[1, 0], [0.25, 0.75]])


def test_ids_are_compared_by_name(tmp_path):
    texts = pd.Series(TEXTS, index=[10, 11, 12, 13])
    path = tmp_path / "answers.csv"
    path.write_text("id,label\n13,b\n12,a\n11,b\n10,a\n")
    assert labels(path, texts) == LABELS
    assert labels(pd.Series(LABELS, index=["10", "11", "12", "13"]), texts) == LABELS


@pytest.mark.parametrize(
    "answers",
    [
        [np.int64(1), np.int64(0), np.int64(1), np.int64(0)],
        [True, False, True, False],
        [np.str_("a"), np.str_("b")] * 2,
    ],
)
def test_lists_of_any_scalars(answers):
    assert list(map(str, labels(answers))) == [str(v) for v in answers]


def test_missing_answers_in_lists():
    for none in (None, float("nan"), pd.NA):
        with pytest.warns(ModelLabelWarning, match="1 of 4"):
            assert labels(["a", none, "a", "b"], abstentions="drop") == list("aab")


def test_rows_of_probabilities_and_scores_by_label():
    rows = [[0.75, 0.25], [0.25, 0.75], [1.0, 0.0], [0.0, 1.0]]
    settings = {"classes": ["a", "b"], "response_method": "predict_proba"}
    scores = [{"a": a, "b": b} for a, b in rows]
    for answers in (
        rows,
        dict(zip(TEXTS, rows, strict=True)),
        dict(zip(TEXTS, scores, strict=True)),
        [*scores[:3], {"b": 1.0}],
    ):
        task = MTEWrapper(answers, **settings).label(TEXTS)
        np.testing.assert_allclose(task.targets.proba, rows)
        assert labels(answers, classes=["a", "b"]) == LABELS
    with pytest.raises(ValueError, match=r"\[2, 3\] columns"):
        labels([*rows[:3], [0.1, 0.2, 0.7]])


def test_labels_have_no_probabilities():
    with pytest.raises(AttributeError, match="predict_proba"):
        labels(LABELS, response_method="predict_proba")


def test_what_is_given_twice():
    twice = pd.DataFrame({"text": [*TEXTS, "one"], "label": [*LABELS, "a"]})
    assert labels(twice) == LABELS
    with pytest.raises(ModelLabelError, match="given twice"):
        labels(twice.assign(label=[*LABELS, "b"]))
    others = pd.DataFrame({"text": [*TEXTS, "x", "x"], "label": [*LABELS, "a", "b"]})
    assert labels(others) == LABELS
    missing = pd.DataFrame({"text": [*TEXTS, "one"], "label": [None, *"bab", None]})
    with pytest.warns(ModelLabelWarning):
        assert labels(missing, abstentions="drop") == list("bab")


def test_texts_without_an_answer_may_be_left_out():
    some = dict(zip(TEXTS[:3], LABELS, strict=False))
    with pytest.raises(ModelLabelError, match="1 of 4 texts"):
        labels(some)
    for settings in ({"abstentions": "drop"}, {"on_error": "drop"}):
        with pytest.warns(ModelLabelWarning, match="1 of 4"):
            assert labels(some, **settings) == LABELS[:3]
    with pytest.raises(ModelLabelError, match="4 of 4 texts"):
        labels({"other": "a"}, abstentions="drop")


def test_names_of_answers(tmp_path):
    table = pd.DataFrame({"text": TEXTS, "name": LABELS})
    assert MTEWrapper(table).model_name == "answers"
    assert labels(table) == LABELS
    assert MTEWrapper(pd.Series(LABELS, name=1)).model_name == "1"
    assert MTEWrapper(pd.Series(LABELS)).model_name == "answers"
    marked = pd.DataFrame({"text": TEXTS, "fingerprint": LABELS})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert labels(marked) == LABELS
