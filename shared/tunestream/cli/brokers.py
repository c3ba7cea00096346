"""Which broker a command works with: the one that is named, else that of ``tunestream up`` in this folder."""

from __future__ import annotations

import os
from typing import Annotated, Final

import typer

from tunestream.cli.errors import Failure
from tunestream.config.settings import KafkaSettings
from tunestream.overview.deployment import UP_FILE, Deployment, UnreadableDeployment, read_deployment

__all__ = ["BrokersOption", "broker_settings", "deployment_here"]

_VARIABLE: Final = "KAFKA_BOOTSTRAP_SERVERS"

BrokersOption = Annotated[
    str | None,
    typer.Option(
        "--brokers",
        metavar="HOST:PORT,…",
        help=f"The broker; by default {_VARIABLE}, else that of `tunestream up` in this folder.",
    ),
]


def broker_settings(brokers: str | None = None) -> KafkaSettings:
    """Return the broker that a command works with, and how its topics are laid out.

    Args:
        brokers: what ``--brokers`` names; it wins over ``KAFKA_BOOTSTRAP_SERVERS``, and that over the broker
            and prefix of a ``tunestream up`` that runs in the current folder.

    Raises:
        Failure: when the folder's ``up.json`` makes no sense.
    """
    if brokers:
        return KafkaSettings(bootstrap_servers=brokers)
    running = None if os.environ.get(_VARIABLE) else deployment_here()
    if running is None or not running.process.is_alive:
        return KafkaSettings()
    settings = KafkaSettings(bootstrap_servers=running.broker)
    if "topic_prefix" in settings.model_fields_set:
        return settings
    return settings.model_copy(update={"topic_prefix": running.topic_prefix})


def deployment_here() -> Deployment | None:
    """Return what ``tunestream up`` runs, or ran when it was killed, in the current folder.

    Raises:
        Failure: when the folder's ``up.json`` makes no sense.
    """
    try:
        return read_deployment(UP_FILE)
    except UnreadableDeployment as error:
        raise Failure(str(error), remedy="Delete it when no `tunestream up` of this folder runs") from error
