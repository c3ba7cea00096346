"""A subscriber: what happens to the jobs of the run `sums`, from now on."""

import asyncio

from tunestream.sdk import StatusSubscriber


async def main() -> None:
    """Print every status until Ctrl-C."""
    async with StatusSubscriber("sums") as statuses:
        async for status in statuses:
            print(status.job_id[:8], status.status, status.progress, status.message)


asyncio.run(main())
