import json
import pickle

import numpy as np

from fute_sklearn import PromptedLLM
from fute_sklearn.llm.clients._filled_prompt import FilledPrompt, prompt_of

LABELS = ["bad", "good"]


class Recording:
    """A client that keeps what it is asked."""

    capabilities, fingerprint = {"score", "generate"}, "recording"

    def __init__(self):
        self.asked = []

    def score(self, contexts, continuations):
        self.asked.append(contexts)
        return [np.zeros(len(one)) for one in continuations]

    def generate(self, prompts, max_tokens):
        self.asked.append(prompts)
        return ["because"] * len(prompts)


def test_it_is_a_text_like_any_other():
    filled = FilledPrompt("A film. It was", "p")
    assert filled == "A film. It was"
    assert json.dumps(filled) == '"A film. It was"'
    again = pickle.loads(pickle.dumps(filled))
    assert (again, again.prompt) == (filled, "p")
    assert prompt_of(filled + " good") == ""


def test_rows_of_a_prompt_have_its_name():
    recording = Recording()
    for more, count in [({}, 1), ({"cot": "Why?"}, 2)]:
        recording.asked.clear()
        PromptedLLM(recording, "{text} It was", LABELS, **more).predict(["a", "b"])
        PromptedLLM(recording, "{text} So", LABELS, **more).predict(["a", "b"])
        names = [{prompt_of(one) for one in call} for call in recording.asked]
        assert len(names) == 2 * count
        assert all(len(one) == 1 and "" not in one for one in names)
        assert len(set.union(*names)) == 2
