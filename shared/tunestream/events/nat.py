"""The NeMo Agent Toolkit's IntermediateStep as it is on the wire (1.9)."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import Field

from tunestream.events.base import Foreign
from tunestream.events.registry import event_type

__all__ = [
    "IntermediateStep",
    "IntermediateStepPayload",
    "IntermediateStepType",
    "InvocationNode",
    "StreamEventData",
]


class IntermediateStepType(StrEnum):
    """Every kind of step that the toolkit emits."""

    LLM_START = "LLM_START"
    LLM_END = "LLM_END"
    LLM_NEW_TOKEN = "LLM_NEW_TOKEN"  # noqa: S105
    TOOL_START = "TOOL_START"
    TOOL_END = "TOOL_END"
    WORKFLOW_START = "WORKFLOW_START"
    WORKFLOW_END = "WORKFLOW_END"
    TASK_START = "TASK_START"
    TASK_END = "TASK_END"
    TTC_START = "TTC_START"
    TTC_END = "TTC_END"
    FUNCTION_START = "FUNCTION_START"
    FUNCTION_END = "FUNCTION_END"
    CUSTOM_START = "CUSTOM_START"
    CUSTOM_END = "CUSTOM_END"
    SPAN_START = "SPAN_START"
    SPAN_CHUNK = "SPAN_CHUNK"
    SPAN_END = "SPAN_END"


class InvocationNode(Foreign):
    """Where in the workflow a step happened."""

    function_id: str
    function_name: str
    parent_id: str | None = None
    parent_name: str | None = None


class StreamEventData(Foreign):
    """The ``data`` of a step, untyped: TTC fields arrive here as plain extra fields."""

    model_config = Foreign.model_config | {"extra": "allow", "allow_inf_nan": True}

    input: Any | None = None
    output: Any | None = None
    chunk: Any | None = None
    payload: Any | None = None


class IntermediateStepPayload(Foreign):
    """What happened; times in seconds since the epoch."""

    model_config = Foreign.model_config | {"extra": "allow", "allow_inf_nan": True}

    event_type: IntermediateStepType
    event_timestamp: float | None = None
    span_event_timestamp: float | None = None
    framework: str | None = None
    name: str | None = None
    tags: list[str] | None = None
    metadata: dict[str, Any] | None = None
    data: StreamEventData | None = None
    usage_info: dict[str, Any] | None = None
    UUID: str | None = None


@event_type("nat.intermediate_step.v1")
class IntermediateStep(Foreign):
    """One step of a workflow, as ``model_dump_json`` of the toolkit writes it."""

    parent_id: str = "root"
    function_ancestry: InvocationNode | None = Field(default=None)
    payload: IntermediateStepPayload
