"""The server's ASGI application. An agent that is written for it works against vLLM unchanged."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import uuid4

from fastapi import APIRouter, FastAPI
from fastapi.responses import PlainTextResponse, Response

from tunestream.devserver.batching import MicroBatcher
from tunestream.devserver.bodies import (
    ApiError,
    BatchRequest,
    ChatChoice,
    ChatMessage,
    ChatRequest,
    ChatResponse,
    CompletionChoice,
    CompletionRequest,
    CompletionResponse,
    Drawing,
    LoadAdapter,
    ModelList,
    Sampling,
    UnloadAdapter,
)
from tunestream.devserver.engine import WeightsEngine
from tunestream.devserver.errors import add_error_handlers
from tunestream.devserver.sampling import Completion, Question
from tunestream.devserver.views import TokenView, usage_of

__all__ = ["create_app"]

_Batcher = MicroBatcher[Question, Completion]


def create_app(engine: WeightsEngine) -> FastAPI:
    """Return the server's ASGI application over ``engine``."""
    batcher: _Batcher = MicroBatcher(engine.answer)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with batcher.running():
            yield

    app = FastAPI(title="tunestream development server", lifespan=lifespan)
    add_error_handlers(app)
    app.include_router(_chat_routes(engine, batcher))
    app.include_router(_completion_routes(engine, batcher))
    app.include_router(_adapter_routes(engine, batcher))

    @app.get("/health")
    async def health() -> Response:
        return Response(status_code=200)

    return app


def _chat_routes(engine: WeightsEngine, batcher: _Batcher) -> APIRouter:
    router = APIRouter(prefix="/v1")

    @router.post("/chat/completions")
    async def chat(request: ChatRequest) -> Response:
        question = _chat_question(engine, request, request.messages)
        return await answer(request, _draws(question, request.n), prompt_tokens=len(question.prompt))

    @router.post("/chat/completions/batch")
    async def batch(request: BatchRequest) -> Response:
        questions = [_chat_question(engine, request, messages) for messages in request.messages]
        return await answer(request, questions, prompt_tokens=sum(len(each.prompt) for each in questions))

    async def answer(request: Sampling, questions: list[Question], *, prompt_tokens: int) -> Response:
        answers = await asyncio.gather(*map(batcher.submit, questions))
        shown = TokenView(engine, request)
        body = ChatResponse(
            id=f"chatcmpl-{uuid4().hex}",
            created=int(time.time()),
            model=request.model,
            choices=[
                ChatChoice(
                    index=index,
                    message=ChatMessage(role="assistant", content=answer.text),
                    logprobs=shown.of_chat(answer) if request.logprobs else None,
                    finish_reason=answer.finish,
                )
                for index, answer in enumerate(answers)
            ],
            usage=usage_of(answers, prompt_tokens),
        )
        return Response(body.model_dump_json(), media_type="application/json")

    return router


def _completion_routes(engine: WeightsEngine, batcher: _Batcher) -> APIRouter:
    router = APIRouter(prefix="/v1")

    @router.post("/completions")
    async def complete(request: CompletionRequest) -> Response:
        asked = [
            _question(engine, request, engine.tokenize(prompt), request.max_tokens, request.logprobs or 0)
            for prompt in request.prompts
        ]
        draws = [draw for question in asked for draw in _draws(question, request.n)]
        answers = await asyncio.gather(*map(batcher.submit, draws))
        shown = TokenView(engine, request)
        body = CompletionResponse(
            id=f"cmpl-{uuid4().hex}",
            created=int(time.time()),
            model=request.model,
            choices=[
                CompletionChoice(
                    index=index,
                    text=answer.text,
                    logprobs=None if request.logprobs is None else shown.of_completion(answer),
                    finish_reason=answer.finish,
                )
                for index, answer in enumerate(answers)
            ],
            usage=usage_of(answers, sum(len(question.prompt) for question in asked)),
        )
        return Response(body.model_dump_json(), media_type="application/json")

    return router


def _adapter_routes(engine: WeightsEngine, batcher: _Batcher) -> APIRouter:
    router = APIRouter(prefix="/v1")

    @router.get("/models")
    async def models() -> ModelList:
        return ModelList(data=await batcher.call(engine.weights.cards))

    @router.post("/load_lora_adapter")
    async def load(request: LoadAdapter) -> PlainTextResponse:
        if not request.lora_name or not request.lora_path:
            raise _missing("Both 'lora_name' and 'lora_path' must be provided.")
        await batcher.call(
            engine.weights.load, request.lora_name, request.lora_path, in_place=request.load_inplace
        )
        return PlainTextResponse(f"Success: LoRA adapter '{request.lora_name}' added successfully.")

    @router.post("/unload_lora_adapter")
    async def unload(request: UnloadAdapter) -> PlainTextResponse:
        if not request.lora_name:
            raise _missing("'lora_name' needs to be provided to unload a LoRA adapter.")
        await batcher.call(engine.weights.unload, request.lora_name)
        return PlainTextResponse(f"Success: LoRA adapter '{request.lora_name}' removed successfully.")

    return router


def _chat_question(engine: WeightsEngine, request: Sampling, messages: list[ChatMessage]) -> Question:
    prompt = engine.encode([message.model_dump() for message in messages])
    top = request.top_logprobs if request.logprobs else 0
    return _question(engine, request, prompt, request.max_tokens, top)


def _question(
    engine: WeightsEngine, request: Drawing, prompt: tuple[int, ...], max_tokens: int | None, top: int
) -> Question:
    room = engine.context - len(prompt)
    if (max_tokens or 1) > room:
        text = (
            f"a prompt has {len(prompt)} tokens; with max_tokens it exceeds the context of {engine.context}"
        )
        raise ApiError(400, text, kind="BadRequestError", param="max_tokens")
    return Question(
        model=request.model,
        prompt=prompt,
        max_tokens=max_tokens or room,
        temperature=request.temperature,
        top_p=request.top_p,
        top=top,
        stop=request.stops,
        seed=request.seed,
    )


def _draws(question: Question, n: int) -> list[Question]:
    if question.seed is None:
        return [question] * n
    return [replace(question, seed=question.seed + index) for index in range(n)]


def _missing(text: str) -> ApiError:
    return ApiError(400, text, kind="InvalidUserInput")
