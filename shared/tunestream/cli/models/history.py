"""``tunestream models lineage`` and ``diff``: where versions came from and how two of them differ."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer

from tunestream.artifacts import ArtifactMissing, ArtifactStore
from tunestream.cli.brokers import BrokersOption, broker_settings
from tunestream.cli.errors import Failure
from tunestream.cli.lookup import VersionArgument, find_version, read_configs, read_run_ledger
from tunestream.cli.output import JsonOption, console, emit, leaves, note, show, table
from tunestream.config.settings import KafkaSettings, StoreSettings
from tunestream.domain.jobs.ledger import JobLedger
from tunestream.events.keys import decode_key
from tunestream.events.models import ModelVersion
from tunestream.overview.read.runs import read_ledger
from tunestream.sdk.lineage import Lineage, trace_turn, trace_version

__all__ = ["diff", "lineage"]


def lineage(
    version: Annotated[
        str | None, typer.Argument(metavar="[VERSION]", help="A version's id, or its beginning.")
    ] = None,
    turn: Annotated[
        str | None,
        typer.Option(
            "--turn", metavar="EXAMPLE/TURN", help='Percent-encode a "/" in a name; EXAMPLE/ is an episode.'
        ),
    ] = None,
    run: Annotated[str | None, typer.Option("--run", metavar="RUN", help="With --turn.")] = None,
    *,
    events: Annotated[
        bool, typer.Option("--events/--no-events", help="Look for the events in ttc.candidates.")
    ] = True,
    brokers: BrokersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Trace a version back to the events that made it, or a turn to the versions that it went into."""
    if (version is None) == (turn is None):
        raise typer.BadParameter("give a version or --turn")
    settings = broker_settings(brokers)
    if turn is not None:
        if run is None:
            raise typer.BadParameter("name the run", param_hint="--run")
        _show_fed(settings, run, turn, as_json=as_json)
    elif version is not None:
        _show_lineage(asyncio.run(_trace(settings, version, events=events)), as_json=as_json)


async def _trace(settings: KafkaSettings, name: str, *, events: bool) -> Lineage:
    ledger = await read_ledger(settings)
    return await trace_version(settings, _store(), ledger, find_version(ledger, name), events=events)


def _show_lineage(found: Lineage, *, as_json: bool) -> None:
    version, batch = found.version, found.job.batch
    document = {
        "version": version.version,
        "run_id": version.run_id,
        "base_model": version.base_model,
        "ancestors": found.ancestors,
        "job_id": found.job.job_id,
        "batch_id": batch.batch_id,
        "origin": batch.origin,
        "config_digest": version.config_digest,
        "dataset": batch.train.uri,
        "rows": batch.train.rows,
    }
    turns = None if found.turns is None else [asdict(one) for one in found.turns]
    if as_json:
        emit(document | {"turns": turns})
        return
    console().print(table(["", ""], document.items()))
    if turns is None:
        note("the dataset was deleted: its rows are not known any more")
    else:
        columns = ("example_id", "turn_id", "rows", "group_ids", "policy_versions", "events")
        show(turns, as_json=False, columns=columns, empty="Its rows name no turns.")


def _show_fed(settings: KafkaSettings, run: str, turn: str, *, as_json: bool) -> None:
    parts = decode_key(turn.encode())
    if len(parts) != 2:
        raise Failure(f"{turn} is not EXAMPLE/TURN", remedy='Write a "/" in a name as %2F.')
    ledger = asyncio.run(read_run_ledger(settings, run))
    fed = asyncio.run(trace_turn(_store(), ledger, run, *parts))
    if as_json:
        emit(asdict(fed))
        return
    rows = [{"version": name, "how": how} for how, names in asdict(fed).items() for name in names]
    show(rows, as_json=False, columns=("version", "how"), empty="It went into no version.")


def diff(
    first: VersionArgument,
    second: Annotated[str, typer.Argument(metavar="VERSION", help="The other one.")],
    brokers: BrokersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how two versions differ: parents, metrics, evaluation, configuration, rows."""
    rows = asyncio.run(_differences(broker_settings(brokers), first, second))
    show(rows, as_json=as_json, columns=("field", "first", "second"), empty="They do not differ.")


async def _differences(settings: KafkaSettings, first: str, second: str) -> list[dict[str, Any]]:
    ledger = await read_ledger(settings)
    found = [find_version(ledger, name) for name in (first, second)]
    left, right = [await _described(settings, ledger, version) for version in found]
    names = [*left, *(name for name in right if name not in left)]
    return [
        {"field": name, "first": left.get(name), "second": right.get(name)}
        for name in names
        if left.get(name) != right.get(name)
    ] + _row_differences(*(_lines(ledger, version) for version in found))


async def _described(settings: KafkaSettings, ledger: JobLedger, version: ModelVersion) -> dict[str, object]:
    configs = await read_configs(settings, version.run_id)
    config = configs.get(version.config_digest)
    job = ledger.job(version.job_id)
    document: Mapping[str, Any] = {
        **version.model_dump(mode="json", exclude={"created"}),
        "config": None if config is None else config.document(),
        "batch": None if job is None else job.batch.model_dump(mode="json", include={"origin", "groups"}),
    }
    return dict(leaves(document))


def _lines(ledger: JobLedger, version: ModelVersion) -> set[bytes] | None:
    job = ledger.job(version.job_id)
    if job is None:
        return None
    try:
        return set(_store().get_bytes(job.batch.train.uri, job.batch.train.sha256).splitlines())
    except ArtifactMissing:
        return None


def _row_differences(left: set[bytes] | None, right: set[bytes] | None) -> list[dict[str, Any]]:
    if left is None or right is None:
        return [{"field": "rows", "first": None, "second": None}]
    return list(_counted(left, right))


def _counted(left: set[bytes], right: set[bytes]) -> Iterator[dict[str, Any]]:
    if left != right:
        yield {"field": "rows", "first": len(left), "second": len(right)}
        yield {"field": "rows of its own", "first": len(left - right), "second": len(right - left)}


def _store() -> ArtifactStore:
    return ArtifactStore(StoreSettings().artifacts)
