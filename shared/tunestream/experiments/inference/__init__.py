"""Answering test rows: by transformers in a process of its own, or by an OpenAI-compatible server."""

from tunestream.experiments.inference.options import generation_options, idle_settings, request_options
from tunestream.experiments.inference.run import RESULTS, infer

__all__ = ["RESULTS", "generation_options", "idle_settings", "infer", "request_options"]
