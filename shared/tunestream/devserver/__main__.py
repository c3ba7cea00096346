"""``python -m tunestream.devserver``: the process that ``tunestream serve`` becomes."""

from __future__ import annotations

import argparse
from pathlib import Path

import uvicorn

from tunestream.devserver.app import create_app
from tunestream.devserver.engine import WeightsEngine


def main() -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(prog="tunestream.devserver", description=main.__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of the base model")
    parser.add_argument("--name", required=True, help="what the base model is called in requests")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    engine = WeightsEngine(options.model, options.name, seed=options.seed)
    uvicorn.run(
        create_app(engine), host=options.host, port=options.port, access_log=False, log_level="warning"
    )


if __name__ == "__main__":
    main()
