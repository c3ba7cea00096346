"""The demo's policy server: OpenAI-compatible chat completions with vLLM's adapter routes.

``python -m tunestream.demo.policy_server --model DIR --name NAME --port PORT``. An agent written for it
works against vLLM unchanged.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import uvicorn
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from tunestream.demo.batching import MicroBatcher
from tunestream.demo.chat import (
    ApiError,
    BatchRequest,
    ChatChoice,
    ChatMessage,
    ChatRequest,
    ChatResponse,
    ChoiceLogprobs,
    LoadAdapter,
    ModelList,
    Sampling,
    TokenLogprob,
    TopLogprob,
    UnloadAdapter,
    Usage,
)
from tunestream.demo.engine import Answer, Question, Said, WeightsEngine

__all__ = ["create_app"]


_Batcher = MicroBatcher[Question, Answer]


def create_app(engine: WeightsEngine) -> FastAPI:
    """Return the server's ASGI application over ``engine``."""
    batcher: _Batcher = MicroBatcher(engine.answer)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with batcher.running():
            yield

    app = FastAPI(title="tunestream demo policy", lifespan=lifespan)
    app.add_exception_handler(ApiError, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse_body)
    app.include_router(_chat_routes(engine, batcher))
    app.include_router(_adapter_routes(engine, batcher))

    @app.get("/health")
    async def health() -> Response:
        return Response(status_code=200)

    return app


def _chat_routes(engine: WeightsEngine, batcher: _Batcher) -> APIRouter:
    router = APIRouter(prefix="/v1")

    @router.post("/chat/completions")
    async def chat(request: ChatRequest) -> Response:
        question = _question(engine, request, request.messages)
        return await answer(request, _draws(question, request.n), prompt_tokens=len(question.prompt))

    @router.post("/chat/completions/batch")
    async def batch(request: BatchRequest) -> Response:
        questions = [_question(engine, request, messages) for messages in request.messages]
        return await answer(request, questions, prompt_tokens=sum(len(each.prompt) for each in questions))

    async def answer(request: Sampling, questions: list[Question], *, prompt_tokens: int) -> Response:
        answers = await asyncio.gather(*map(batcher.submit, questions))
        body = _response(request, answers, prompt_tokens).model_dump_json()
        return Response(body, media_type="application/json")

    return router


def _adapter_routes(engine: WeightsEngine, batcher: _Batcher) -> APIRouter:
    router = APIRouter(prefix="/v1")

    @router.get("/models")
    async def models() -> ModelList:
        return ModelList(data=await batcher.call(engine.cards))

    @router.post("/load_lora_adapter")
    async def load(request: LoadAdapter) -> PlainTextResponse:
        if not request.lora_name or not request.lora_path:
            raise _missing("Both 'lora_name' and 'lora_path' must be provided.")
        await batcher.call(engine.load, request.lora_name, request.lora_path, in_place=request.load_inplace)
        return PlainTextResponse(f"Success: LoRA adapter '{request.lora_name}' added successfully.")

    @router.post("/unload_lora_adapter")
    async def unload(request: UnloadAdapter) -> PlainTextResponse:
        if not request.lora_name:
            raise _missing("'lora_name' needs to be provided to unload a LoRA adapter.")
        await batcher.call(engine.unload, request.lora_name)
        return PlainTextResponse(f"Success: LoRA adapter '{request.lora_name}' removed successfully.")

    return router


def _question(engine: WeightsEngine, request: Sampling, messages: list[ChatMessage]) -> Question:
    prompt = engine.encode([message.model_dump() for message in messages])
    room = engine.context - len(prompt)
    if (request.max_tokens or 1) > room:
        text = (
            f"a prompt has {len(prompt)} tokens; with max_tokens it exceeds the context of {engine.context}"
        )
        raise ApiError(400, text, kind="BadRequestError", param="messages")
    return Question(
        model=request.model,
        prompt=prompt,
        max_tokens=request.max_tokens or room,
        temperature=request.temperature,
        top=request.top_logprobs if request.logprobs else 0,
        stop=request.stops,
        seed=request.seed,
    )


def _draws(question: Question, n: int) -> list[Question]:
    if question.seed is None:
        return [question] * n
    return [replace(question, seed=question.seed + index) for index in range(n)]


def _response(request: Sampling, answers: list[Answer], prompt_tokens: int) -> ChatResponse:
    completion_tokens = sum(answer.tokens for answer in answers)
    return ChatResponse(
        id=f"chatcmpl-{uuid4().hex}",
        created=int(time.time()),
        model=request.model,
        choices=[_choice(index, answer, request.logprobs) for index, answer in enumerate(answers)],
        usage=Usage(
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            total_tokens=prompt_tokens + completion_tokens,
        ),
    )


def _choice(index: int, answer: Answer, logprobs: bool) -> ChatChoice:
    return ChatChoice(
        index=index,
        message=ChatMessage(role="assistant", content=answer.text),
        logprobs=ChoiceLogprobs(content=[_token(said) for said in answer.said]) if logprobs else None,
        finish_reason=answer.finish,
    )


def _token(said: Said) -> TokenLogprob:
    top = [TopLogprob(token=token, logprob=value, bytes=list(token.encode())) for token, value in said.top]
    return TokenLogprob(
        token=said.token, logprob=said.logprob, bytes=list(said.token.encode()), top_logprobs=top
    )


def _missing(text: str) -> ApiError:
    return ApiError(400, text, kind="InvalidUserInput")


async def _refuse(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body(), status_code=error.status)


async def _refuse_body(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    text = "; ".join(f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in error.errors())
    return JSONResponse(ApiError(400, text, kind="BadRequestError").body(), status_code=400)


def main() -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of the base model")
    parser.add_argument("--name", required=True, help="what the base model is called in requests")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    engine = WeightsEngine(options.model, options.name, seed=options.seed)
    uvicorn.run(
        create_app(engine), host=options.host, port=options.port, access_log=False, log_level="warning"
    )


if __name__ == "__main__":
    main()
