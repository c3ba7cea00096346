"""The dataset of a job: a commit in the data store, known to the customizer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tunestream.trainers.nemo.config import NeMoCustomizerTrainerAdapterConfig
from tunestream.trainers.nemo.records import Records
from tunestream.trainers.nemo.services import Services
from tunestream.trainers.nemo.views import Anything
from tunestream.trainers.port import JobSpec

__all__ = ["upload"]

_TRAINING: Final = "training/training_file.jsonl"
_VALIDATION: Final = "validation/validation_file.jsonl"


async def upload(
    services: Services,
    spec: JobSpec,
    config: NeMoCustomizerTrainerAdapterConfig,
    dataset: str,
    records: Records,
) -> str:
    """Upload a dataset of its own for a job, and register it; what was uploaded before stays.

    Args:
        services: where to.
        spec: whose dataset.
        config: whether its commit is pinned, and where a copy stays.
        dataset: its name.
        records: what it holds.

    Returns:
        The commit's id.

    Raises:
        ServiceError: when a service cannot be reached or refuses.
    """
    files = {_TRAINING: records.train}
    if records.validation:
        files[_VALIDATION] = records.validation
    if config.dataset_output_dir:
        await asyncio.to_thread(_keep, Path(config.dataset_output_dir) / spec.job_id, files)
    commit = await services.store.upload(
        f"{services.namespace}/{dataset}", files, f"job {spec.job_id} of run {spec.run_id}"
    )
    url = f"hf://datasets/{services.namespace}/{dataset}" + (f"@{commit}" if config.pin_commit else "")
    await _register(services, spec.run_id, dataset, commit, url)
    return commit


async def _register(services: Services, run_id: str, dataset: str, commit: str, url: str) -> None:
    """Make the dataset known to the customizer, with its commit."""
    namespace = services.namespace
    created = await services.client.create_or_accept(
        lambda service: service.datasets.create(
            name=dataset,
            namespace=namespace,
            files_url=url,
            description=f"tunestream run {run_id}",
            custom_fields={"tunestream_commit": commit},
        )
    )
    if not created:
        await services.client.call(
            lambda service: service.datasets.update(dataset, namespace=namespace, files_url=url), Anything
        )


def _keep(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a copy of what is uploaded."""
    for name, content in files.items():
        target = folder / Path(name).name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
