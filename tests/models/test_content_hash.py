"""Models are told apart by state and loaded code, the same in every process."""

import importlib
import os
import subprocess
import sys
import textwrap
import zipfile

import pytest
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from fute_sklearn import MTEWrapper
from fute_sklearn.models._content_hash import content_hash

HELPER = "WORDS = {'good'}\n\ndef answer(x):\n    return 'a'\n"
DEEP = "def deep(x):\n    return 'a'\n"
LAZY = "def late(x):\n    return 'a'\n"
BASE = (
    "import helper_mod\n"
    "from deep_mod import deep\n\n"
    "class Base:\n"
    "    ANSWER = 'a'\n\n"
    "    def predict(self, X):\n"
    "        return [self.one(x) for x in X]\n"
)
MODEL = (
    "import logging\nimport threading\n\n"
    "from base_mod import Base, deep, helper_mod\n\n"
    "LOCK = threading.Lock()\n"
    "LOG = logging.getLogger(__name__)\n"
    "THRESHOLD = 0.5\n\n"
    "def decorated(function):\n"
    "    def inner(*args):\n"
    "        return function(*args)\n"
    "    return inner\n\n"
    "class Model(Base):\n"
    "    @decorated\n"
    "    def one(self, x):\n"
    "        with LOCK:\n"
    "            LOG.debug('asked')\n"
    "            from lazy_mod import late\n"
    "        known = x in {'u', 'v', 'w'} or x in helper_mod.WORDS or THRESHOLD > 1\n"
    "        if known:\n"
    "            return helper_mod.answer(x)\n"
    "        return deep(x) + late(x) + self.ANSWER\n"
)
FILES = {
    "helper_mod": HELPER,
    "deep_mod": DEEP,
    "lazy_mod": LAZY,
    "base_mod": BASE,
    "model_mod": MODEL,
}
ASK = (
    "import model_mod\n"
    "from fute_sklearn.models._content_hash import content_hash\n"
    "print(content_hash(model_mod.Model()))\n"
)


def write(folder, **changes):
    for name, body in FILES.items():
        (folder / f"{name}.py").write_text(changes.get(name, body))


def hash_in_new_process(folder, code=ASK, seed="random", **options):
    found = subprocess.run(
        [sys.executable, *options.pop("how", ("-c", code))],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONHASHSEED": str(seed)},
        **options,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.split()[-1]


CHANGES = {
    "helper_mod": HELPER.replace("'a'", "'b'"),
    "deep_mod": DEEP.replace("'a'", "'b'"),
    "lazy_mod": LAZY.replace("'a'", "'b'"),
    "base_mod": BASE.replace("'a'", "'b'"),
    "model_mod": MODEL.replace("0.5", "2.5"),
}


@pytest.mark.parametrize("edited", [*CHANGES, "words", "decorator"])
def test_an_edit_of_anything_it_runs_is_another_model(edited, tmp_path):
    write(tmp_path)
    before = hash_in_new_process(tmp_path, seed=1)
    assert before != "None"
    assert before == hash_in_new_process(tmp_path, seed=2)
    if edited == "words":
        write(tmp_path, helper_mod=HELPER.replace("{'good'}", "{'fine'}"))
    elif edited == "decorator":
        write(
            tmp_path, model_mod=MODEL.replace("function(*args)", "function(*args)[1:]")
        )
    else:
        write(tmp_path, **{edited: CHANGES[edited]})
    assert hash_in_new_process(tmp_path) != before


def test_comments_and_places_are_no_part_of_a_model(tmp_path):
    write(tmp_path)
    before = hash_in_new_process(tmp_path)
    write(tmp_path, model_mod="# a remark\n\n\n" + MODEL)
    assert hash_in_new_process(tmp_path) == before


@pytest.fixture
def loaded(tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield importlib.import_module("model_mod")
    for name in FILES:
        sys.modules.pop(name, None)


def test_what_is_loaded_counts_not_what_lies_on_disk(loaded, tmp_path, texts):
    """An edit while a session runs must not file old answers under new code."""
    before = content_hash(loaded.Model())
    write(tmp_path, **CHANGES)
    assert content_hash(loaded.Model()) == before
    first = MTEWrapper(loaded.Model(), classes=["aaa", "abb"]).label(texts)
    assert set(first.y) == {"aaa"}
    for name in ("model_mod", "base_mod", "lazy_mod", "deep_mod", "helper_mod"):
        del sys.modules[name]
    importlib.invalidate_caches()
    for name in FILES:
        cached = importlib.util.cache_from_source(str(tmp_path / f"{name}.py"))
        if os.path.exists(cached):
            os.remove(cached)
    again = importlib.import_module("model_mod")
    assert content_hash(again.Model()) != before
    second = MTEWrapper(again.Model(), classes=["b", "aaa"]).label(texts)
    assert set(second.y) == {"b"}


def test_patched_code_and_constants_are_another_model(loaded, monkeypatch):
    before = content_hash(loaded.Model())
    monkeypatch.setattr(loaded, "THRESHOLD", 2.0)
    assert content_hash(loaded.Model()) != before
    monkeypatch.undo()
    monkeypatch.setattr(sys.modules["helper_mod"], "answer", lambda x: "c")
    assert content_hash(loaded.Model()) != before


CLASS = """
class Own:
    def predict(self, X):
        return ["a" for x in X]

from fute_sklearn import MTEWrapper
from fute_sklearn.models._content_hash import content_hash
MTEWrapper(Own()).label(["one", "two"])
print(content_hash(Own()))
"""


def test_classes_from_stdin_a_zip_and_a_notebook_cell(tmp_path):
    read = hash_in_new_process(tmp_path, how=("-",), input=CLASS)
    assert read == hash_in_new_process(tmp_path, how=("-",), input=CLASS) != "None"
    other = CLASS.replace('"a"', '"b"')
    assert hash_in_new_process(tmp_path, how=("-",), input=other) != read
    cell = f"exec(compile({CLASS!r}, '<ipython-input-1>', 'exec'))"
    assert hash_in_new_process(tmp_path, cell) != "None"
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("zipped.py", CLASS)
    assert hash_in_new_process(tmp_path / "all.zip", "import zipped") != "None"


FITTED = textwrap.dedent(
    """
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from fute_sklearn.models._content_hash import content_hash
    X, y = ["one good", "two bad", "three good"], [0, 1, 0]
    for vectorizer in (
        CountVectorizer(stop_words="english"),
        TfidfVectorizer(stop_words=["one", "two"], ngram_range=(1, 2)),
        TfidfVectorizer(),
    ):
        model = make_pipeline(vectorizer, LogisticRegression()).fit(X, y)
        print(content_hash(model), end="-")
    """
)


def test_fitted_vectorizers_hash_alike_in_every_process(tmp_path):
    first = hash_in_new_process(tmp_path, FITTED, seed=1)
    assert "None" not in first
    assert first == hash_in_new_process(tmp_path, FITTED, seed=2)


@pytest.mark.parametrize("vectorizer", [CountVectorizer(), TfidfVectorizer()])
def test_other_stop_words_are_another_model(vectorizer, texts, labels):
    model = make_pipeline(vectorizer, LogisticRegression()).fit(texts, labels)
    before = content_hash(model)
    assert content_hash(model.fit(texts, labels)) == before
    model.set_params(**{f"{model.steps[0][0]}__stop_words": ["fine"]})
    assert content_hash(model.fit(texts, labels)) != before


def test_what_cannot_be_hashed_is_known_by_identity(texts):
    import threading

    local = threading.local()

    class Local:
        def predict(self, X):
            return ["a" if local else "b" for x in X]

    assert content_hash(Local()) is None
    assert MTEWrapper(Local(), classes=["a", "b"]).label(texts).n_samples == len(texts)


def test_functions_and_closures_are_part_of_a_model():
    def make(word):
        class Closed:
            def predict(self, X):
                return [word in x for x in X]

        return Closed

    globals()["Closed"] = first = make("fine")
    first.__qualname__ = "Closed"
    before = content_hash(first())
    globals()["Closed"] = second = make("dull")
    second.__qualname__ = "Closed"
    assert None not in (before, content_hash(second()))
    assert content_hash(second()) != before
    del globals()["Closed"]


def test_every_kind_of_callable_is_looked_into(loaded):
    """What wraps code shows the code: partials, bound methods, caches, properties."""
    import functools

    def changed(make):
        hashes = set()
        for answer in ("a", "b"):
            names = {"functools": functools}
            exec(f"def say(x):\n    return {answer!r}\n", names)
            names["say"].__module__ = __name__
            globals()["say"] = names["say"]
            hashes.add(content_hash(make(names["say"])))
        return len(hashes) == 2 and None not in hashes

    def with_class(**body):
        def make(say):
            cls = type("Made", (), {k: v(say) for k, v in body.items()})
            cls.__module__, cls.__qualname__ = __name__, "Made"
            globals()["Made"] = cls
            return cls()

        return make

    assert changed(with_class(predict=lambda say: staticmethod(say)))
    assert changed(with_class(predict=lambda say: functools.lru_cache(say)))
    assert changed(with_class(predict=lambda say: property(say)))
    assert changed(with_class(table=lambda say: {"yes": say}))
    assert changed(with_class(predict=lambda say: functools.wraps(say)(lambda x: say)))


def test_compiled_modules_count_by_their_file(tmp_path):
    import types

    from fute_sklearn.models._code_hash import CodeHasher, Unknowable
    from fute_sklearn.models._content_hash import state_hash

    module = types.ModuleType("compiled_by_me")
    module.__file__ = str(tmp_path / "compiled_by_me.so")
    found = set()
    for content in (b"one", b"two"):
        (tmp_path / "compiled_by_me.so").write_bytes(content)
        found.add(CodeHasher(state_hash).digest([module]))
    assert len(found) == 2
    module.__file__ = str(tmp_path / "gone.so")
    with pytest.raises(Unknowable):
        CodeHasher(state_hash).digest([module])


def test_relative_and_missing_imports_inside_functions(tmp_path):
    package = tmp_path / "packed"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "part.py").write_text("def say(x):\n    return 'a'\n")
    (package / "model.py").write_text(
        "class Model:\n"
        "    def predict(self, X):\n"
        "        from . import part\n"
        "        try:\n"
        "            import no_such_module_anywhere\n"
        "        except ImportError:\n"
        "            pass\n"
        "        return [part.say(x) for x in X]\n"
    )
    ask = ASK.replace("import model_mod", "from packed import model as model_mod")
    before = hash_in_new_process(tmp_path, ask)
    assert before == hash_in_new_process(tmp_path, ask) != "None"
    (package / "part.py").write_text("def say(x):\n    return 'b'\n")
    assert hash_in_new_process(tmp_path, ask) != before


def test_bfloat16_and_wrapped_functions_have_a_state():
    import functools

    torch = pytest.importorskip("torch")
    half = torch.nn.Linear(2, 2).to(torch.bfloat16)
    before = content_hash(half)
    assert before is not None
    with torch.no_grad():
        half.weight += 1
    assert content_hash(half) != before
    assert content_hash(functools.partial(len)) is not None
