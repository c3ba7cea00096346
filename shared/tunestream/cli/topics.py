"""``tunestream topics``: the catalogue's topics on a broker."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

import typer

from tunestream.cli.brokers import BrokersOption, broker_settings
from tunestream.cli.errors import Failure
from tunestream.cli.output import DryRunOption, JsonOption, note, show
from tunestream.config.settings import KafkaSettings
from tunestream.streams.admin import TopicsError, TopicsRefusedError, apply_topics, diff_topics, list_topics
from tunestream.streams.broker.topic_plan import TopicAction, TopicChange

__all__ = ["register"]

Result = TypeVar("Result")

PartitionsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Partitions of every topic; TUNESTREAM_KAFKA_PARTITIONS when not given. Without both, topics "
        "keep theirs, and new ones get as many.",
    ),
]

_topics = typer.Typer(no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add ``topics`` to ``app``."""
    app.add_typer(_topics, name="topics")


@_topics.callback()
def topics() -> None:
    """Create, list and compare the topics.

    TUNESTREAM_KAFKA_TOPIC_PREFIX, _REPLICATION_FACTOR and
    _MIN_INSYNC_REPLICAS define how topics are named and kept.
    """


@_topics.command()
def apply(
    dry_run: DryRunOption = False,
    partitions: PartitionsOption = None,
    brokers: BrokersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create missing topics and mend settings that differ; a partition count is never changed."""
    plan = _run(apply_topics(_settings(brokers, partitions), dry_run=dry_run))
    _show_plan(plan, as_json=as_json)
    changed = sum(change.action is not TopicAction.KEEP for change in plan)
    note(f"{changed} of {len(plan)} topics {'would be' if dry_run else 'were'} created or altered.")


@_topics.command()
def diff(
    partitions: PartitionsOption = None, brokers: BrokersOption = None, as_json: JsonOption = False
) -> None:
    """Show which topics are missing or differ from the catalogue, and what would be done."""
    plan = _run(diff_topics(_settings(brokers, partitions)))
    _show_plan([change for change in plan if change.action is not TopicAction.KEEP], as_json=as_json)


@_topics.command("list")
def list_(brokers: BrokersOption = None, as_json: JsonOption = False) -> None:
    """List the catalogue's topics that the broker has."""
    states = _run(list_topics(_settings(brokers, None)))
    rows = [asdict(state) | ({} if as_json else {"kept": _kept(state.settings)}) for state in states]
    columns = ("name", "partitions", "replication_factor", "kept")
    show(rows, as_json=as_json, columns=columns, empty="No topics yet: tunestream topics apply")


def _settings(brokers: str | None, partitions: int | None) -> KafkaSettings:
    settings = broker_settings(brokers)
    return settings.model_copy(update={"partitions": partitions}) if partitions else settings


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    try:
        return asyncio.run(work)
    except TopicsRefusedError as error:
        raise Failure(error.problem, remedy=error.remedy) from error
    except TopicsError as error:
        raise Failure(str(error)) from error


def _show_plan(plan: Sequence[TopicChange], *, as_json: bool) -> None:
    rows = [asdict(change) | ({} if as_json else {"what": _what(change)}) for change in plan]
    columns = ("action", "name", "partitions", "what")
    show(rows, as_json=as_json, columns=columns, empty="Every topic is as in the catalogue.")


def _what(change: TopicChange) -> str:
    if change.action is TopicAction.CREATE:
        return ""
    settings = (f"{one.name}: {one.current or 'default'} → {one.wanted}" for one in change.settings)
    return change.reason or ", ".join(settings)


def _kept(settings: Mapping[str, str]) -> str:
    if settings.get("cleanup.policy") == "compact":
        return "latest of each key"
    retention = settings.get("retention.ms")
    return f"{int(retention) / 86_400_000:g} days" if retention else "as the broker has it"
