"""Serving a finished model as a NIM."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from tunestream.trainers.nemo.client import CustomizerClient
from tunestream.trainers.nemo.config import NeMoCustomizerTrainerAdapterConfig
from tunestream.trainers.nemo.request import name_of
from tunestream.trainers.nemo.views import Anything, DeploymentView
from tunestream.trainers.remote import Refused, ServiceError

__all__ = ["deploy"]

_SERVES: Final = frozenset({"ready", "completed"})
_BROKEN: Final = frozenset({"failed", "error", "cancelled", "canceled"})


class _NotDeployed(Exception):
    """The model does not serve; the message is the reason."""


async def deploy(
    client: CustomizerClient,
    config: NeMoCustomizerTrainerAdapterConfig,
    job_id: str,
    output_model: str,
    *,
    unwanted: Callable[[], bool],
) -> str:
    """Deploy a model and wait until it serves.

    Steps that were done before are not done again, so that a restart in between does no harm. A deployment
    of the configured name that exists is changed to the new model.

    Args:
        client: of the deployment service.
        config: image, name and deadlines.
        job_id: names the deployment's configuration.
        output_model: what to serve.
        unwanted: returns whether to stop waiting.

    Returns:
        How it went, for people: training does not fail because of it.
    """
    name = config.deployment_config.deployment_name or f"tunestream-{name_of(job_id)}"
    try:
        async with asyncio.timeout(config.deployment_timeout_seconds):
            await _configure(client, config, job_id, output_model)
            await _create(client, config, job_id, name)
            url = await _ready(client, config, name, unwanted)
    except TimeoutError:
        limit = config.deployment_timeout_seconds
        return f"not deployed: {name} did not become ready within {limit:g} s"
    except (_NotDeployed, ServiceError) as error:
        return f"not deployed: {error}"
    return f"deployed as {name}" + (f" at {url}" if url else "")


async def _configure(
    client: CustomizerClient, config: NeMoCustomizerTrainerAdapterConfig, job_id: str, output_model: str
) -> None:
    nim = config.deployment_config
    await client.create_or_accept(
        lambda service: service.deployment.configs.create(
            name=_config_name(job_id),
            namespace=config.namespace,
            description=nim.description,
            model=output_model,
            nim_deployment={"image_name": nim.image_name, "image_tag": nim.image_tag, "gpu": nim.gpu},
        )
    )


async def _create(
    client: CustomizerClient, config: NeMoCustomizerTrainerAdapterConfig, job_id: str, name: str
) -> None:
    target = f"{config.namespace}/{_config_name(job_id)}"
    created = await client.create_or_accept(
        lambda service: service.deployment.model_deployments.create(
            name=name,
            namespace=config.namespace,
            description=config.deployment_config.description,
            config=target,
        )
    )
    if not created:
        await client.call(
            lambda service: service.deployment.model_deployments.update(
                name, namespace=config.namespace, config=target
            ),
            Anything,
        )


async def _ready(
    client: CustomizerClient,
    config: NeMoCustomizerTrainerAdapterConfig,
    name: str,
    unwanted: Callable[[], bool],
) -> str:
    """Return the URL of the deployment when it serves."""
    failures = 0
    while not unwanted():
        try:
            found = await client.call(
                lambda service: service.deployment.model_deployments.retrieve(
                    name, namespace=config.namespace
                ),
                DeploymentView,
            )
        except ServiceError as error:
            failures += 1
            if isinstance(error, Refused) or failures >= config.max_consecutive_status_failures:
                raise
        else:
            failures = 0
            state = found.status_details.status.lower()
            if state in _SERVES:
                return found.url
            if state in _BROKEN:
                reason = found.status_details.description or "without a reason"
                raise _NotDeployed(f"{name} is {state}: {reason}")
        await asyncio.sleep(config.poll_interval_seconds)
    raise _NotDeployed("canceled")


def _config_name(job_id: str) -> str:
    return f"tunestream-{name_of(job_id)}"
