"""The services of one configuration: connections, tokens, and the namespace."""

from __future__ import annotations

import asyncio
import os

from pydantic import SecretStr

from tunestream.trainers.nemo.client import CustomizerClient
from tunestream.trainers.nemo.config import NeMoCustomizerTrainerAdapterConfig
from tunestream.trainers.nemo.data_store import DataStore
from tunestream.trainers.nemo.settings import NeMoSettings
from tunestream.trainers.port import TrainingFailed

__all__ = ["Services"]


class Services:
    """Entity store, customizer and deployment service behind one client, and the data store.

    Args:
        config: where they are, and the namespace.
        settings: deadlines.

    Raises:
        TrainingFailed: when a token's variable is not set.
    """

    def __init__(self, config: NeMoCustomizerTrainerAdapterConfig, settings: NeMoSettings) -> None:
        token = _secret(config.api_key_env)
        self.namespace = config.namespace
        self.settings = settings
        self.client = CustomizerClient(config.entity_host, token, settings)
        self.store = DataStore(config.datastore_host, _secret(config.hf_token_env) or token, settings)
        self._dataset = config.dataset_name
        self._preparing = asyncio.Lock()
        self._prepared = not config.create_namespace_if_missing

    async def ping(self) -> None:
        """Ask both services, and change nothing.

        Raises:
            ServiceError: when one cannot be reached or refuses.
        """
        await asyncio.gather(
            self.client.ping(self.namespace), self.store.ping(f"{self.namespace}/{self._dataset}")
        )

    async def prepare(self) -> None:
        """Create the namespace in both stores, once, if the configuration wants it.

        Raises:
            ServiceError: when a store cannot be reached or refuses.
        """
        async with self._preparing:
            if self._prepared:
                return
            await self.client.create_or_accept(
                lambda service: service.namespaces.create(
                    id=self.namespace, description="tunestream datasets"
                )
            )
            await self.store.create_namespace(self.namespace)
            self._prepared = True

    async def close(self) -> None:
        """Close the connections."""
        await self.client.close()


def _secret(name: str | None) -> SecretStr | None:
    if name is None:
        return None
    value = os.environ.get(name)
    if not value:
        raise TrainingFailed("token_missing", f"set the environment variable {name}: it holds the token")
    return SecretStr(value)
