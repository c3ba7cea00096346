"""Every error of the server in the body that vLLM gives it."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from tunestream.devserver.bodies import ApiError

__all__ = ["add_error_handlers"]


def add_error_handlers(app: FastAPI) -> None:
    """Have an application answer errors as vLLM does."""
    app.add_exception_handler(ApiError, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse_body)
    app.add_exception_handler(HTTPException, _refuse_route)
    app.add_exception_handler(Exception, _apologise)


async def _refuse(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body(), status_code=error.status)


async def _refuse_body(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    text = "; ".join(f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in error.errors())
    return JSONResponse(ApiError(400, text, kind="BadRequestError").body(), status_code=400)


async def _refuse_route(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    refusal = ApiError(error.status_code, error.detail, kind="NotFoundError")
    return JSONResponse(refusal.body(), status_code=error.status_code)


async def _apologise(_: Request, error: Exception) -> JSONResponse:
    fault = ApiError(500, f"{type(error).__name__}: {error}", kind="InternalServerError")
    return JSONResponse(fault.body(), status_code=500)
