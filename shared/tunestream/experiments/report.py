"""Reports of experiments: pages that need nothing beside themselves, tables and pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any, Final

import yaml

from tunestream.experiments.inference import RESULTS
from tunestream.experiments.interfaces import ExperimentManifest, MetricEstimate, ResultRow, Stage
from tunestream.experiments.journal import read_lines
from tunestream.experiments.plots import draw_comparison, draw_curves, draw_metric, svg_of, write_png
from tunestream.experiments.store import ExperimentStore, write_atomically
from tunestream.experiments.summary import ArmSummary, Summary, summarise, to_csv, to_markdown, written

__all__ = ["write_report"]

_EXAMPLES: Final = 12  # answers that are shown
_LONGEST: Final = 600  # characters of a shown text
_SHORT: Final = 32  # characters of a cell that is not broken into lines

_PAGE: Final = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>$title</title>
<style>
  :root { color: #1f2933; background: #f5f7fa; font: 16px/1.55 system-ui, sans-serif; }
  body { margin: 0 auto; max-width: 72rem; padding: 3rem 1.5rem 4rem; }
  header p { color: #52606d; margin: .3rem 0 0; }
  h1 { font-size: 1.9rem; line-height: 1.2; margin: 0; letter-spacing: -.02em; overflow-wrap: anywhere; }
  h2 { font-size: 1.05rem; margin: 0 0 .8rem; }
  a { color: #2563eb; text-decoration: none; }
  .badge { display: inline-block; border-radius: 99px; padding: .15rem .8rem; font-weight: 600;
    font-size: .85rem; color: #fff; background: #7b8794; margin-bottom: .9rem; }
  .complete { background: #16a34a; } .failed { background: #c2410c; } .running { background: #2563eb; }
  .tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); gap: 1rem;
    margin: 2rem 0 1rem; }
  .card { background: #fff; border: 1px solid #e4e7eb; border-radius: 12px; padding: 1.2rem 1.4rem;
    margin: 0 0 1rem; overflow-x: auto; }
  .tiles .card { margin: 0; }
  .tile b { display: block; white-space: nowrap; font-size: 1.2rem; letter-spacing: -.03em;
    font-variant-numeric: tabular-nums; }
  .tile span, .quiet, footer { color: #7b8794; font-size: .87rem; }
  svg { max-width: 100%; height: auto; display: block; margin: 0 auto; }
  table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .92rem; }
  th { text-align: left; font-size: .8rem; color: #7b8794; font-weight: 600; white-space: nowrap; }
  td { border-top: 1px solid #e4e7eb; vertical-align: top; overflow-wrap: anywhere; }
  td.short { white-space: nowrap; overflow-wrap: normal; }
  td.text { white-space: pre-wrap; font-family: ui-monospace, monospace; font-size: .82rem; min-width: 9rem; }
  th, td { padding: .45rem .6rem; }
  tr.best td { background: #eff6ff; font-weight: 600; }
  .right { color: #15803d; } .wrong { color: #c2410c; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .82rem; margin: .6rem 0 0; }
  ul { margin: 0; padding-left: 1.2rem; }
  summary { cursor: pointer; font-weight: 600; }
  footer { margin-top: 2rem; }
</style>
</head>
<body>
<header>
  <span class="badge $status">$word</span>
  <h1>$title</h1>
  <p>$sentence</p>
</header>
$body
<footer>Intervals are bootstrap intervals over the test rows; rows of one prompt are drawn together, tuned
and baseline in pairs. Experiment $id.</footer>
</body>
</html>
""")


class _Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def write_report(store: ExperimentStore, experiment: ExperimentManifest) -> Path:
    """Write the report of an experiment beside its manifest, and return the page.

    These are ``report.html``, ``summary.csv``, ``summary.md`` and the pictures ``metric.png`` and
    ``curves.png``; of a study also a page for each arm.
    """
    summary = summarise(store, experiment)
    folder = store.experiment_dir(experiment.id)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "summary.csv", to_csv(summary))
    write_atomically(folder / "summary.md", to_markdown(summary))
    _write_pictures(summary, folder)
    page = folder / "report.html"
    if len(summary.arms) == 1:
        write_atomically(page, _arm_page(store, summary, summary.arms[0], experiment.name))
        return page
    for arm in summary.arms:
        title = f"{experiment.name} · {arm.name}"
        write_atomically(folder / _arm_file(arm), _arm_page(store, summary, arm, title))
    write_atomically(page, _study_page(summary))
    return page


def _write_pictures(summary: Summary, folder: Path) -> None:
    metric = draw_metric(summary, summary.experiment.metric)
    curves = draw_curves(summary.arms, summary.best)
    for name, figure in (("metric.png", metric), ("curves.png", curves)):
        if figure is not None:
            write_png(figure, folder / name)


def _arm_file(arm: ArmSummary) -> str:
    return f"report-{arm.name}.html"


def _study_page(summary: Summary) -> str:
    metric = summary.experiment.metric
    sentence = "No arm has a value to compare"
    best = next((arm for arm in summary.arms if arm.name == summary.best), None)
    if best is not None:
        settings = ", ".join(f"{key} = {value}" for key, value in best.arm.settings.items())
        sentence = f"By {metric} the best arm is {best.name}: {settings}"
    failures = [f"{arm.name}: {arm.error}" for arm in summary.arms if arm.error]
    others = [name for name in summary.metrics if name != metric]
    body = [
        _tiles(_study_figures(summary, best)),
        _card("Arms", _arms_table(summary)),
        _card("What failed", _list(failures)) if failures else "",
        _picture(f"{metric} by setting; dashed: mean of the arms", draw_metric(summary, metric)),
        _picture("Loss of the trainings", draw_curves(summary.arms, summary.best)),
        *(_folded(f"{name} by setting", draw_metric(summary, name)) for name in others),
        _configuration(summary.experiment),
    ]
    counts = Counter(arm.status for arm in summary.arms)
    word = ", ".join(f"{count} {status}" for status, count in counts.items())
    status = next((each for each in ("failed", "running", "waiting") if each in counts), "complete")
    return _page(summary, summary.experiment.name, (status, word), f"{sentence}.", body)


def _study_figures(summary: Summary, best: ArmSummary | None) -> list[tuple[str, str]]:
    seconds = {stage.key: stage.seconds for arm in summary.arms for stage in arm.stages.values()}
    figures = [(str(len(summary.arms)), "arms"), (f"{sum(seconds.values()):.0f} s", "in all stages")]
    if best is None:
        return figures
    value = best.value(summary.experiment.metric)
    return [(best.name, "best arm"), (written(value), summary.experiment.metric), *figures]


def _arms_table(summary: Summary) -> _Html:
    header = ["arm", *_short_names(summary.swept), "status", *summary.metrics, "seconds"]
    rows, classes = [], []
    for arm in summary.arms:
        link = _Html(f'<a href="{escape(_arm_file(arm))}">{escape(arm.name)}</a>')
        settings = [str(arm.arm.settings.get(key, "")) for key in summary.swept]
        values = [written(arm.value(name)) for name in summary.metrics]
        rows.append([link, *settings, arm.status, *values, f"{arm.seconds:.1f}"])
        classes.append("best" if arm.name == summary.best else "")
    return _table(header, rows, rows_as=classes)


def _short_names(paths: Sequence[str]) -> list[str]:
    """Return the last part of each path where that is enough to tell them apart."""
    counts = Counter(path.rpartition(".")[2] for path in paths)
    return [last if counts[last := path.rpartition(".")[2]] == 1 else path for path in paths]


def _arm_page(store: ExperimentStore, summary: Summary, arm: ArmSummary, title: str) -> str:
    config = arm.arm.config
    swept = ", ".join(f"{key} = {value}" for key, value in arm.arm.settings.items())
    sentence = f"{config['model']['hf_model_ckpt']}{', ' + swept if swept else ''}"
    notes = [note for stage in arm.stages.values() for note in stage.notes]
    body = [
        _tiles(_arm_figures(arm)),
        _card("Why it failed", _Html(escape(arm.error))) if arm.error else "",
        _picture("Tuned beside baseline", draw_comparison(arm)),
        _card("Metrics", _metrics_table(arm)) if arm.qa else "",
        _card("Tests", _tests_table(arm)) if arm.qa and arm.qa.tests else "",
        _picture("Loss of the training", draw_curves([arm], None)),
        _card("Answers", _answers_table(store, arm)) if Stage.INFERENCE in arm.stages else "",
        _card("Notes", _list(notes)) if notes else "",
        _card("Stages", _stages_table(arm)),
        _card("Ran with", _environment_table(arm)) if arm.stages else "",
        _details("Every setting", _Html(f"<pre>{escape(_yaml(config))}</pre>")),
        _configuration(summary.experiment),
    ]
    return _page(summary, title, (arm.status, arm.status), sentence, body)


def _arm_figures(arm: ArmSummary) -> list[tuple[str, str]]:
    figures = []
    if arm.qa is not None and (exact := arm.qa.tuned.get("exact_match")) is not None:
        before = arm.qa.baseline.get("exact_match")
        value = f"{before.mean:.1%} → {exact.mean:.1%}" if before else f"{exact.mean:.1%}"
        figures += [(value, "exact match"), (f"{exact.rows:,}", "test rows")]
    trained = arm.stages.get(Stage.FINETUNE)
    if trained is not None:
        figures += [
            (f"{trained.metrics[name]:{form}}", label)
            for name, form, label in (
                ("rows", ",.0f", "training rows"),
                ("train_loss", ".3f", "training loss"),
            )
            if name in trained.metrics
        ]
    return [*figures, (f"{arm.seconds:.1f} s", "in all stages")]


def _metrics_table(arm: ArmSummary) -> _Html:
    assert arm.qa is not None
    qa = arm.qa
    names = list(dict.fromkeys([*qa.tuned, *qa.baseline, *qa.failures]))
    rows = [
        [
            name,
            written(qa.baseline.get(name)),
            written(qa.tuned.get(name)),
            _signed(qa.difference.get(name)),
            "; ".join(f"{count} without: {reason}" for reason, count in qa.failures.get(name, {}).items()),
        ]
        for name in names
    ]
    header = ["metric", "baseline", "tuned", "tuned - baseline", "not taken"]
    return _table(header, rows if qa.failures else [row[:-1] for row in rows])


def _signed(value: MetricEstimate | None) -> _Html:
    if value is None:
        return _Html("")
    apart = value.low is not None and value.high is not None and (value.low > 0 or value.high < 0)
    text = escape(written(value))
    return _Html(f"<b>{text}</b>" if apart else text)


def _tests_table(arm: ArmSummary) -> _Html:
    assert arm.qa is not None
    rows = [[bank.name, str(bank.passed), str(bank.failed)] for bank in arm.qa.tests]
    return _table(["bank", "passed", "failed"], rows)


def _answers_table(store: ExperimentStore, arm: ArmSummary) -> _Html:
    tuned = _results(store, arm, Stage.INFERENCE)
    baseline = {row.id: row for row in _results(store, arm, Stage.BASELINE)}
    header = ["prompt", "ground truth", *(["baseline"] if baseline else []), "tuned"]
    rows = []
    for row in tuned[:_EXAMPLES]:
        other = [_answer(baseline[row.id])] if row.id in baseline else []
        rows.append([_shown(_prompt(row)), _shown(row.ground_truth), *other, _answer(row)])
    shown = f"the first {len(rows)} of {len(tuned)}; all are in {RESULTS}"
    return _Html(f'{_table(header, rows, text=True)}<p class="quiet">{escape(shown)}</p>')


def _results(store: ExperimentStore, arm: ArmSummary, stage: Stage) -> list[ResultRow]:
    if stage not in arm.stages:
        return []
    return read_lines(store.stage_dir(stage, arm.stages[stage].key) / RESULTS, ResultRow)


def _answer(row: ResultRow) -> _Html:
    right = row.predicted.strip() == row.ground_truth.strip()
    sign, kind = ("✓", "right") if right else ("✗", "wrong")
    text = f"no answer: {row.error}" if row.error else row.predicted
    return _Html(f'<span class="{kind}">{sign}</span> {escape(_shown(text))}')


def _prompt(row: ResultRow) -> str:
    if isinstance(row.prompt, str):
        return row.prompt
    return "\n".join(f"{message.role}: {message.content}" for message in row.prompt)


def _shown(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


def _stages_table(arm: ArmSummary) -> _Html:
    rows = []
    for stage, state in arm.arm.stages.items():
        made = arm.stages.get(stage)
        status = "complete, used again" if state.reused and state.status == "complete" else state.status
        seconds, attempts = (f"{made.seconds:.1f}", str(made.attempts)) if made else ("", "")
        rows.append([str(stage), status, seconds, attempts, (state.key or "")[:16], state.error or ""])
    return _table(["stage", "status", "seconds", "attempts", "inputs", ""], rows)


def _environment_table(arm: ArmSummary) -> _Html:
    last = list(arm.stages.values())[-1]
    hardware = last.hardware
    memory = f", {hardware.memory / 2**30:.0f} GiB" if hardware.memory else ""
    machine = ", ".join([f"{hardware.system}, {hardware.cores} cores{memory}", *hardware.accelerators])
    seeds = {
        f"{stage} {name}": seed for stage, made in arm.stages.items() for name, seed in made.seeds.items()
    }
    rows = [
        ["machine", machine],
        ["versions", ", ".join(f"{name} {version}" for name, version in last.versions.items())],
        ["seeds", ", ".join(f"{name} {seed}" for name, seed in seeds.items())],
        ["started", next(iter(arm.stages.values())).started],
    ]
    return _table(["", ""], rows)


def _page(summary: Summary, title: str, status: tuple[str, str], sentence: str, body: Iterable[str]) -> str:
    kind, word = status
    return _PAGE.substitute(
        title=escape(title),
        status=escape(kind),
        word=escape(word),
        sentence=escape(sentence),
        body="\n".join(part for part in body if part),
        id=escape(summary.experiment.id),
    )


def _tiles(figures: Sequence[tuple[str, str]]) -> str:
    tiles = (
        f'<div class="card tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
        for value, name in figures
    )
    return f'<section class="tiles">{"".join(tiles)}</section>'


def _card(title: str, content: _Html) -> str:
    return f'<section class="card"><h2>{escape(title)}</h2>{content}</section>'


def _picture(title: str, figure: Any) -> str:
    return _card(title, _Html(svg_of(figure))) if figure is not None else ""


def _folded(title: str, figure: Any) -> str:
    return _details(title, _Html(svg_of(figure))) if figure is not None else ""


def _details(title: str, content: _Html) -> str:
    return f'<details class="card"><summary>{escape(title)}</summary>{content}</details>'


def _configuration(experiment: ExperimentManifest) -> str:
    return _details(experiment.source, _Html(f"<pre>{escape(experiment.text)}</pre>"))


def _list(texts: Iterable[str]) -> _Html:
    return _Html(f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in dict.fromkeys(texts))}</ul>")


def _table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    rows_as: Sequence[str] | None = None,
    text: bool = False,
) -> _Html:
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    lines = []
    for number, row in enumerate(rows):
        cells = "".join(_cell(cell, text=text) for cell in row)
        lines.append(f'<tr class="{rows_as[number]}">{cells}</tr>' if rows_as else f"<tr>{cells}</tr>")
    return _Html(f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>")


def _cell(content: str, *, text: bool) -> str:
    short = isinstance(content, _Html) or len(content) <= _SHORT
    kind = "text" if text else ("short" if short else "long")
    return f'<td class="{kind}">{content if isinstance(content, _Html) else escape(content)}</td>'


def _yaml(config: dict[str, Any]) -> str:
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
