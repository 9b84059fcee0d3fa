"""A gate before a real server, which passes on less than that offers.

``strings``: no path for tokens, no numbers of tokens, nothing of a chat's prompt, as
most servers and proxies, so that only strings can be restricted.  ``labels``: no
log-probabilities either, so that only the label that is answered can be known.
"""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

GATES = ("strings", "labels")


def less(answer: dict[str, Any], kind: str) -> dict[str, Any]:
    """Leave out of an answer what the gate does not pass on."""
    answer.pop("prompt_logprobs", None)
    for choice in answer.get("choices", []):
        if kind == "labels":
            choice["logprobs"] = None
        for token in (choice.get("logprobs") or {}).get("content") or []:
            token.pop("id", None)
    return answer


@contextmanager
def gate(url: str, kind: str) -> Iterator[str]:
    """Serve on loopback what a server at ``url`` answers, less what is left out."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    class Gate(BaseHTTPRequestHandler):
        """One request."""

        def log_message(self, *args: Any) -> None:
            """Keep silent."""

        def do_POST(self) -> None:  # the name http.server asks for
            """Pass a request on."""
            data = self.rfile.read(int(self.headers["Content-Length"]))
            if "completions" not in self.path:
                self.answer(404, {"error": {"message": "no such path"}})
            else:
                self.answer(*self.passed_on(data))

        def passed_on(self, data: bytes) -> tuple[int, dict[str, Any]]:
            """Return the server's status and answer."""
            whole = url.removesuffix("/v1") + self.path
            kinds = {"Content-Type": "application/json"}
            request = urllib.request.Request(whole, data, kinds)
            try:
                with opener.open(request) as found:
                    return 200, less(json.loads(found.read()), kind)
            except urllib.error.HTTPError as error:
                with error:
                    said = error.read().decode(errors="replace")
                return error.code, {"error": {"message": said}}

        def answer(self, status: int, said: dict[str, Any]) -> None:
            """Send an answer."""
            data = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Gate)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
