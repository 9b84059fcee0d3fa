"""A server of the OpenAI protocol on loopback: sound, or faulty in a given way."""

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import torch


def echo_choice(model, prompt, index):
    """Echo a prompt with a real model's log-probabilities, one word added."""
    found = model.tokenizer(prompt, return_offsets_mapping=True)
    ids = torch.tensor([found["input_ids"]])
    with torch.no_grad():
        steps = torch.log_softmax(model.model(input_ids=ids).logits[0], -1)
    ends = [0, *(end for _, end in found["offset_mapping"])]
    tokens = [prompt[a:b] for a, b in zip(ends, ends[1:], strict=False)]
    values = [float(steps[i - 1, ids[0, i]]) for i in range(1, ids.shape[1])]
    return {
        "index": index,
        "finish_reason": "length",
        "text": f"{prompt} so",
        "logprobs": {
            "tokens": [*tokens, " so"],
            "token_logprobs": [None, *values, -1.0],
            "text_offset": [*ends[:-1], len(prompt)],
        },
    }


def chat_choice(text, top, index=0, path=None):
    """Write a chat answer; ``top`` are the likeliest first tokens."""
    path = path or [(text, dict(top).get(text, -0.5))] if top else []
    return {
        "index": index,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": text},
        "logprobs": {
            "content": [
                {
                    "token": token,
                    "logprob": value,
                    "top_logprobs": [
                        {"token": t, "logprob": v} for t, v in (top if not i else [])
                    ],
                }
                for i, (token, value) in enumerate(path)
            ]
        }
        if top
        else None,
    }


class Server(ThreadingHTTPServer):
    """Answers with ``respond(path, body)``, changed by ``spoil(answer, body)``."""

    daemon_threads = True
    # Killed jobs leave connections behind: many may wait at once.
    request_queue_size = 64

    def __init__(self, respond):
        super().__init__(("127.0.0.1", 0), Handler)
        self.respond = respond
        self.spoil = None
        self.delay = 0.0
        self.asked = []
        self.keys = set()
        self.heads = []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request, client_address):
        """Keep silent: jobs that are killed break connections."""


class Handler(BaseHTTPRequestHandler):
    """One request."""

    def log_message(self, *args):
        """Keep silent."""

    def do_POST(self):  # the name http.server asks for
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        self.server.heads.append(dict(self.headers))
        self.server.keys.add(self.headers.get("Authorization"))
        time.sleep(self.server.delay)
        answer = self.server.respond(self.path, body)
        status, kind = 200, "application/json"
        if self.server.spoil is not None and not isinstance(answer, tuple):
            answer = self.server.spoil(answer, body)
        if isinstance(answer, tuple):
            status, kind, answer = answer
        if answer is None:  # hang up
            self.close_connection = True
            self.connection.close()
            return
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def whole(choices, model="tiny", kind="text_completion"):
    """Wrap choices as a server does."""
    return {
        "id": "1",
        "object": kind,
        "created": 1,
        "model": model,
        "choices": choices,
        "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10},
    }


def next_choice(model, prompt, max_tokens):
    """Continue a prompt with a real model; log-probability of the first token."""
    text = model.generate([prompt], max_tokens)[0]
    words = text.split()[:1]
    values = model.score([prompt], [[f" {word}" for word in words]])[0].tolist()
    return {
        "index": 0,
        "finish_reason": "length",
        "text": text,
        "logprobs": {
            "tokens": [f" {word}" for word in words],
            "token_logprobs": values,
        },
    }


def model_server(model, lists=True):
    """Serve completions with echo from a real model; no chat."""

    def respond(path, body):
        if not path.endswith("/v1/completions"):
            return 404, "application/json", {"error": {"message": "no such path"}}
        prompts = body["prompt"]
        if not body.get("echo"):
            return whole([next_choice(model, prompts, body["max_tokens"])])
        if isinstance(prompts, str):
            prompts = [prompts]
        elif not lists:
            return 500, "application/json", {"error": {"message": ""}}
        return whole([echo_choice(model, p, i) for i, p in enumerate(prompts)])

    return Server(respond)


def chat_server(answer):
    """Serve chat only; ``answer(text, body)`` gives the choices."""

    def respond(path, body):
        if not path.endswith("/chat/completions"):
            return 404, "application/json", {"error": {"message": "no such path"}}
        choices = answer(body["messages"][0]["content"], body)
        return whole(choices, kind="chat.completion")

    return Server(respond)


def force_server(model, raw=True, copied=None):
    """Serve completions and chat without echo, whose tokens can be forced.

    The log-probabilities are those before the bias, as llama-server gives them; with
    ``raw=False`` those after it, as OpenAI gives them.  With ``copied``, the
    log-probability of a token that a grammar of characters spells, it is a proxy that
    has no path for tokens.
    """

    def choice(prompt, body):
        names = model.tokenizer.convert_ids_to_tokens
        spelled = re.fullmatch('root ::= "(.*)"', body.get("grammar", ""))
        if spelled:
            words = re.findall(r"\s*\S+", spelled[1])
            return spelled[1], [(word, copied) for word in words]
        forced = [int(one) for one in body.get("logit_bias", {})]
        forced += [
            int(one) for one in re.findall(r"<\[(\d+)\]>", body.get("grammar", ""))
        ]
        if forced:
            words = names(forced)
        else:
            words = model.generate([prompt], body["max_tokens"])[0].split()
        ends = [prompt]
        for word in words:
            ends.append(f"{ends[-1]} {word}")
        values = [0.0] * len(words)
        if raw or not forced:
            options = [[f" {word}"] for word in words]
            values = [float(one[0]) for one in model.score(ends[:-1], options)]
        tokens = [f" {word}" for word in words]
        return "".join(tokens), list(zip(tokens, values, strict=True))

    def respond(path, body):
        if path.endswith("/tokenize"):
            if copied is not None:
                return 404, "application/json", {"error": {"message": "no such path"}}
            return {"tokens": model.tokenizer(body["content"])["input_ids"]}
        chat = path.endswith("/chat/completions")
        prompt = body["messages"][0]["content"] if chat else body["prompt"]
        if not isinstance(prompt, str):
            prompt = prompt[0]
        text, path_ = choice(prompt, body)
        number = model.tokenizer.convert_tokens_to_ids
        if chat:
            found = chat_choice(text, path_[:1], path=path_)
            for token in found["logprobs"]["content"]:
                token["id"] = number(token["token"].strip())
            return whole([found], kind="chat.completion")
        content = [
            {"token": token, "logprob": value, "id": number(token.strip())}
            for token, value in path_
        ]
        found = {"index": 0, "finish_reason": "length", "text": text}
        return whole([{**found, "logprobs": {"content": content}}])

    return Server(respond)


def given_server(model, spoil=lambda told: told, before=("assistant", "\n"), sure=None):
    """Serve chats whose answers may be given, as vLLM does; nothing else is scored.

    ``spoil`` changes the log-probabilities of the prompt, whose tokens ``before`` come
    between the message and the answer; ``sure`` is told of every generated token.
    """
    number = model.tokenizer.convert_tokens_to_ids

    def words_of(prompt, words):
        before = [" ".join([prompt, *words[:i]]) for i in range(len(words))]
        found = model.score(before, [[f" {word}"] for word in words])
        texts = [word if i == 0 else f" {word}" for i, word in enumerate(words)]
        return [(t, float(v[0])) for t, v in zip(texts, found, strict=True)]

    def told_of(prompt, answer):
        start = [(text, -1.0) for text in ("<user>", prompt, *before)]
        rows = [*start, *words_of(prompt, answer.split())]
        known = [number(text.strip() or text) for text, _ in rows]
        return [
            {str(one or 900 + i): {"logprob": v, "rank": 1, "decoded_token": text}}
            for i, (one, (text, v)) in enumerate(zip(known, rows, strict=True))
        ]

    def respond(path, body):
        bad = 400, "application/json", {"error": {"message": "wrong fields"}}
        if not path.endswith("/chat/completions"):
            return 404, "application/json", {"error": {"message": "no such path"}}
        if {"structured_outputs", "guided_choice", "grammar"} & set(body):
            return bad
        prompt, *given = (message["content"] for message in body["messages"])
        going_on = body.get("continue_final_message", False)
        if going_on == body.get("add_generation_prompt", True) or going_on != bool(
            given
        ):
            return bad
        words = model.generate([prompt], body["max_tokens"])[0].split()
        said = [
            (text, v if sure is None else sure) for text, v in words_of(prompt, words)
        ]
        choice = chat_choice(" ".join(words), said[:1], path=said)
        answer = whole([choice], kind="chat.completion")
        if given and "prompt_logprobs" in body:
            answer["prompt_logprobs"] = spoil([None, *told_of(prompt, given[0])])
        return answer

    return Server(respond)


def allowed_strings(means, value):
    """Read which answers a request allows."""
    if means == "structured_outputs":
        return value["choice"]
    if means == "guided_choice":
        return value
    rules = value.removeprefix("root ::= ").split(" | ")
    return [json.loads(rule) for rule in rules]


def choice_server(model, means, logs="raw", end="<end>"):
    """Serve completions and chat without echo, which may be restricted to answers.

    ``means`` is the field by which.  The log-probabilities are those of the model
    (``logs="raw"``), as llama-server gives them, or those among the answers that are
    allowed (``"allowed"``), also where one answer can be spelled in several ways
    (``"spellings"``), or there are none (None).  No number of a token is told, and the
    token that ends an answer is told as ``end``.
    """

    def said(prompt, body):
        """Return the words of an answer, and the likeliest first words."""
        if means not in body:
            words = model.generate([prompt], body["max_tokens"])[0].split()
            values = [spelled(prompt, words, i) for i in range(len(words))]
            if logs == "spellings":  # a sure model
                values = [-0.03] * len(words)
            return words, values, [(words[0], values[0])]
        options = allowed_strings(means, body[means])
        scores = [float(v) for v in model.score([prompt], [options])[0]]
        best = int(np.argmax(scores))
        words = options[best].split()
        if logs == "raw":
            values = [spelled(prompt, words, i) for i in range(len(words))]
            return words, values, [(words[0], values[0])]
        if logs == "spellings" and len(options) == 1:
            values = [-0.01, *[-0.3 / i for i in range(1, len(words))]]
            return words, values, [(words[0], values[0])]
        total = np.logaddexp.reduce(scores)
        top = [
            (option.split()[0], score - total)
            for option, score in zip(options, scores, strict=True)
        ]
        return words, [scores[best] - total, *[0.0] * (len(words) - 1)], top

    def spelled(prompt, words, at):
        before = " ".join([prompt, *words[:at]])
        return float(model.score([before], [[f" {words[at]}"]])[0][0])

    def respond(path, body):
        chat = path.endswith("/chat/completions")
        if not chat and not path.endswith("/v1/completions"):
            return 404, "application/json", {"error": {"message": "no such path"}}
        unknown = {"structured_outputs", "guided_choice", "grammar"} - {means}
        if unknown & set(body) or "echo" in body:
            return 400, "application/json", {"error": {"message": "unknown field"}}
        prompt = body["messages"][0]["content"] if chat else body["prompt"]
        words, values, top = said(prompt, body)
        text = " ".join(words)
        tokens = [
            word if i == 0 and chat else f" {word}" for i, word in enumerate(words)
        ]
        path_ = [*zip(tokens, values, strict=True), (end, -0.1)]
        if chat:
            found = chat_choice(text, top if logs else [], path=path_)
            return whole([found], kind="chat.completion")
        found = {"index": 0, "finish_reason": "stop", "text": f" {text}"}
        content = [{"token": token, "logprob": value} for token, value in path_]
        return whole([{**found, "logprobs": {"content": content} if logs else None}])

    return Server(respond)
