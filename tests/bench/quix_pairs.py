"""Quix Streams doing the pair builder's work exactly once: the yardstick, run in an environment of its own.

``PYTHON quix_pairs.py SERVERS GROUP SOURCE STATE_FOLDER``: the candidates of a turn in the store, one record
with every pair of a turn out when it is complete, commits every 100 ms; ends on SIGTERM.
"""

from __future__ import annotations

import sys
from typing import Any

import orjson
from quixstreams import Application  # type: ignore[import-not-found]


def main(servers: str, group: str, source: str, folder: str) -> None:
    """Build pairs without end."""
    app = Application(
        broker_address=servers,
        consumer_group=group,
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_interval=0.1,
        state_dir=folder,
        loglevel="WARNING",
    )
    candidates = app.topic(source, value_deserializer="bytes", key_deserializer="bytes")
    pairs = app.topic(f"{group}.trajectories", value_serializer="bytes", key_serializer="bytes")
    stream = app.dataframe(candidates).apply(_take, stateful=True)
    stream.filter(lambda group: group is not None).to_topic(pairs)
    app.run()


def _take(value: bytes, state: Any) -> bytes | None:
    candidate = orjson.loads(value)
    turn = state.get(candidate["turn_id"]) or []
    turn.append(candidate)
    if len(turn) < candidate["expected_candidates"]:
        state.set(candidate["turn_id"], turn)
        return None
    state.delete(candidate["turn_id"])
    return orjson.dumps(_pairs(turn))


def _pairs(turn: list[dict[str, Any]]) -> list[dict[str, Any]]:
    ranked = sorted(turn, key=lambda candidate: float(candidate["score"]), reverse=True)
    pairs = [
        {
            "prompt": better["prompt"],
            "chosen": better["response"],
            "rejected": worse["response"],
            "score_diff": better["score"] - worse["score"],
            "chosen_metadata": better["raw_metadata"],
            "rejected_metadata": worse["raw_metadata"],
        }
        for rank, better in enumerate(ranked, start=1)
        for worse in ranked[rank:]
    ]
    return sorted(pairs, key=lambda pair: float(pair["score_diff"]), reverse=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
