"""Properties that hold for any input: names, targets, texts, alignment, stores."""

import string
import unicodedata
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fute_sklearn import Task, metrics
from fute_sklearn._engine._encoder_cache import EncoderCache
from fute_sklearn._utils._columns import typed_array
from fute_sklearn._utils._store import ArrayStore, text_key
from fute_sklearn.llm.clients._answer_store import AnswerStore
from fute_sklearn.tasks._label_spaces import nearly_equal
from fute_sklearn.tasks._targets import parse_targets
from fute_sklearn.tasks._validation import check_texts, label_name

ANYWHERE = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,  # the same on every day
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
numbers = st.one_of(
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.fractions(),
    st.booleans(),
)
# numpy's strings end at a NUL.
characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
readable = st.text(characters, min_size=1, max_size=8)
words = readable.map(str.strip).filter(bool)
labels = st.one_of(words, st.integers(), st.booleans())


@given(numbers, numbers)
@ANYWHERE
def test_names_of_numbers_are_equal_where_the_numbers_are(a, b):
    """But for booleans, which are no numbers here."""
    kinds = isinstance(a, bool) == isinstance(b, bool)
    whole = Fraction(a).denominator == 1
    if kinds and whole:
        assert (label_name(a) == label_name(b)) == (a == b)
    assert label_name(label_name(a)) == label_name(a)


@given(st.integers(-(2**62), 2**62), words)
@ANYWHERE
def test_names_do_not_depend_on_the_type_a_label_came_in(number, word):
    assert label_name(number) == label_name(np.int64(number)) == label_name(str(number))
    assert label_name(word) == label_name(np.str_(word)) == label_name(f" {word}\n")


@given(st.lists(labels, min_size=1, max_size=30))
@ANYWHERE
def test_labels_come_back_as_they_were_given(y):
    targets = parse_targets(y, kind="label")
    names = [label_name(v) for v in y]
    assert targets.label_names().tolist() == names
    assert targets.names == tuple(sorted(set(names)))
    assert [label_name(c) for c in targets.classes] == list(targets.names)
    np.testing.assert_array_equal(targets.proba.sum(1), 1)
    rows = np.arange(len(y))[::-1]
    assert targets.take(rows).label_names().tolist() == names[::-1]


@given(st.lists(labels, min_size=2, max_size=8), st.randoms(use_true_random=False))
@ANYWHERE
def test_the_order_of_rows_does_not_change_the_classes(y, random):
    shuffled = random.sample(y, len(y))
    assert (
        parse_targets(y, kind="label").names
        == parse_targets(shuffled, kind="label").names
    )


@given(st.lists(st.one_of(st.integers(), st.booleans(), st.floats(allow_nan=False))))
@ANYWHERE
def test_arrays_merge_no_values(values):
    found = typed_array(values).tolist()
    assert [(type(v), v) for v in found] == [(type(v), v) for v in values]


@given(st.data())
@ANYWHERE
def test_probabilities_by_name_do_not_depend_on_the_columns_order(data):
    names = data.draw(st.lists(words, min_size=2, max_size=5, unique_by=label_name))
    count = data.draw(st.integers(1, 4))
    raw = data.draw(
        arrays(np.float64, (count, len(names)), elements=st.floats(0.01, 1))
    )
    proba = raw / raw.sum(1, keepdims=True)
    order = data.draw(st.permutations(range(len(names))))
    texts = [f"text {i}" for i in range(count)]
    frame = pd.DataFrame(proba, columns=names)
    task = Task(texts, frame)
    assert task == Task(texts, frame[[names[i] for i in order]])
    assert task == Task(texts, proba[:, order], classes=[names[i] for i in order])


@given(st.lists(st.one_of(st.text(), st.none(), st.integers()), max_size=6))
@ANYWHERE
def test_texts_are_kept_or_refused_with_their_row(texts):
    bad = [
        i
        for i, text in enumerate(texts)
        if not isinstance(text, str) or any(0xD800 <= ord(c) < 0xE000 for c in text)
    ]
    if bad or not texts:
        with pytest.raises((TypeError, ValueError), match=r"empty|X\[") as caught:
            check_texts(texts)
        assert not texts or f"X[{bad[0]}]" in str(caught.value)
    else:
        assert check_texts(texts) == texts
        assert check_texts(iter(texts)) == texts
        assert check_texts(pd.Series(texts, dtype=object)) == texts


@given(words.filter(lambda w: not any(c.isspace() for c in w)), st.data())
@ANYWHERE
def test_names_that_differ_in_writing_only_are_near(word, data):
    other = data.draw(
        st.sampled_from(
            [
                unicodedata.normalize("NFD", word),
                unicodedata.normalize("NFC", word),
                unicodedata.normalize("NFKC", word).casefold(),
                word[0] + " " + word[1:],
            ]
        )
    )
    assert nearly_equal([other], [word]) == ({} if other == word else {other: word})


scores = st.floats(-5, 5, allow_nan=False).map(lambda v: round(v, 3))


@given(
    st.dictionaries(words, st.tuples(scores, scores), min_size=2, max_size=8),
    st.randoms(use_true_random=False),
)
@ANYWHERE
def test_the_order_of_named_candidates_never_counts(zoo, random):
    gains = {str(name): abs(gain) + 0.1 for name, (gain, _) in zoo.items()}
    predicted = {str(name): score for name, (_, score) in zoo.items()}
    shuffled = {n: predicted[n] for n in random.sample(list(predicted), len(predicted))}
    for function in (metrics.spearman_score, metrics.regret_loss, metrics.ndcg_score):
        plain = function(list(gains.values()), list(predicted.values()))
        for other in (shuffled, pd.Series(shuffled), pd.DataFrame([shuffled])):
            assert function(gains, other) == plain
    with pytest.raises(ValueError, match="aligned by name"):
        metrics.spearman_score(gains, {**shuffled, "one more candidate": 1})


keys = st.text(string.ascii_lowercase, min_size=1, max_size=4)
stored = st.one_of(
    arrays(np.int64, st.integers(1, 5)),
    arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 3))),
    arrays(np.bool_, st.integers(1, 5)),
    st.lists(readable, min_size=1, max_size=4).map(np.array),
)


@given(st.dictionaries(keys, stored, max_size=5))
@ANYWHERE
def test_arrays_come_back_from_the_store(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("arrays")
    for key, array in content.items():
        ArrayStore(folder).put(key, array)
    for key, array in content.items():
        found = ArrayStore(folder).get(key)
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)
    assert ArrayStore(folder).get("absent") is None


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), readable),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(readable, inner, max_size=3)
    ),
    max_leaves=5,
)


@given(st.dictionaries(readable, json_values.filter(lambda v: v is not None)))
@ANYWHERE
def test_answers_come_back_from_the_store(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("answers")
    store = AnswerStore(folder)
    for key, answer in content.items():
        store.put(key, answer)
    store.close()
    again = AnswerStore(folder)
    assert {key: again.get(key) for key in content} == content
    again.close()


@given(
    st.dictionaries(
        keys,
        arrays(
            np.float32,
            st.tuples(st.integers(1, 5), st.just(3)),
            elements=st.floats(0, 1, width=32),
        ),
        min_size=1,
        max_size=5,
    )
)
@ANYWHERE
def test_states_come_back_from_the_encoder_cache(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("states")
    EncoderCache(folder).put(content)
    again = EncoderCache(folder)
    for key, states in content.items():
        np.testing.assert_array_equal(again.get(key), states)
    assert again.get("absent") is None


@given(
    st.lists(st.text(max_size=3), max_size=4), st.lists(st.text(max_size=3), max_size=4)
)
@ANYWHERE
def test_keys_tell_sequences_of_texts_apart(a, b):
    assert (text_key(*a) == text_key(*b)) == (a == b)
