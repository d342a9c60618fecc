"""vLLM's HTTP server without a model: real uvicorn and its middlewares, with replies of set words after a set time.

As `vllm/entrypoints/openai/api_server.py` in a folder it is what `python3 -c SOURCE` of a pod's command starts there.
"""

import argparse
import asyncio
import importlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

WORDS = ("Welcome", " to", " the", " shop.")
USAGE = {"prompt_tokens": 7, "completion_tokens": len(WORDS)}


def make_package(folder: Path) -> Path:
    """The folder, with this file in it as the module that a pod's command runs."""
    package = folder / "vllm/entrypoints/openai"
    package.mkdir(parents=True)
    for each in (package, *list(package.parents)[:2]):
        (each / "__init__.py").touch()
    (package / "api_server.py").write_text(Path(__file__).read_text())
    return folder


def app(seconds: float, middleware: list[str]) -> Starlette:
    """A chat API whose replies take `seconds`; the last middleware is the outermost, as in vLLM."""

    async def chat(request: Request) -> Response:
        body = await request.json()
        if body.get("stream"):
            return StreamingResponse(events(), media_type="text/event-stream")
        await asyncio.sleep(seconds)
        choice = {"message": {"role": "assistant", "content": "".join(WORDS)}, "finish_reason": "stop"}
        return JSONResponse({"choices": [choice], "usage": USAGE})

    async def events() -> AsyncIterator[str]:
        for number, word in enumerate(WORDS, 1):
            await asyncio.sleep(seconds / len(WORDS))
            choice = {"delta": {"content": word}, "finish_reason": "stop" if number == len(WORDS) else None}
            yield f"data: {json.dumps({'choices': [choice]})}\n\n"
        yield f"data: {json.dumps({'choices': [], 'usage': USAGE})}\n\ndata: [DONE]\n\n"

    def health(request: Request) -> Response:
        return PlainTextResponse("ok")

    classes = [getattr(importlib.import_module(module), name) for module, _, name in (each.rpartition(".") for each in middleware)]
    routes = [Route("/v1/chat/completions", chat, methods=["POST"]), Route("/health", health)]
    return Starlette(routes=routes, middleware=[Middleware(each) for each in reversed(classes)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--middleware", action="append", default=[])
    parser.add_argument("--seconds", type=float, default=0.05)
    options, _ = parser.parse_known_args(sys.argv[1:])
    uvicorn.run(app(options.seconds, options.middleware), port=options.port, log_level="warning", timeout_keep_alive=5)
