"""Labels are read from sentences in any script; settings are checked at once."""

import pytest

from fute_sklearn import LabelParser


@pytest.mark.parametrize(
    ("labels", "answer", "label"),
    [
        (["正面", "负面"], "答案是正面的。", "正面"),
        (["긍정", "부정"], "긍정입니다", "긍정"),
        (["ดี", "แย่"], "หนังดีมาก", "ดี"),
        (["not sure", "yes"], "I am not\nsure", "not sure"),
        (["not  sure", "yes"], "not sure", "not  sure"),
        ([1, 0], "between 0.5 and -1", None),
        ([1, 0], "-1", None),
        ([1, 0], "10 of 21", None),
        ([1, 0], "It is 1, I think.", 1),
        ([1, 0], "label-1.", 1),
        ([1, -1], "The score is -1.", -1),
        ([0.5, 1.5], "1.5.", 1.5),
        ([5, 2], "5, 2", 5),
        (["c", "c++"], "I use C++.", "c++"),
    ],
)
def test_whole_words(labels, answer, label):
    assert LabelParser(labels)(answer) == label


@pytest.mark.parametrize(
    ("labels", "settings", "message"),
    [
        (["a", "b"], {"take": "middle"}, "take='middle'"),
        ({"a": "x", "b": ["X"]}, {}, "for both 'a' and 'b'"),
        ({"a": [" "], "b": "b"}, {}, "empty word for 'a'"),
    ],
)
def test_settings_are_checked_at_once(labels, settings, message):
    with pytest.raises(ValueError, match=message):
        LabelParser(labels, **settings)
