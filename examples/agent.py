"""An agent: several answers to each prompt, every one with a score."""

import asyncio

from tunestream.sdk import TTCPublisher


async def main() -> None:
    """Publish ten turns of four candidates to the run `sums`."""
    async with TTCPublisher(policy_version="base") as publisher:
        for n in range(10):
            async with publisher.turn("sums", f"sum-{n}", prompt=f"{n} + {n} = ?") as turn:
                for answer in range(2 * n - 1, 2 * n + 3):
                    turn.candidate(str(answer), score=-abs(answer - 2 * n))


asyncio.run(main())
