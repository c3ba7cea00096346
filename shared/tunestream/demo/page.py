"""The demo's results as one HTML page that needs nothing beside itself."""

from __future__ import annotations

from html import escape
from pathlib import Path
from string import Template
from typing import Final

from tunestream.demo.picture import write_svg
from tunestream.demo.results import DemoResults, points

__all__ = ["write_page"]

_PAGE: Final = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>tunestream demo · $verdict</title>
<style>
  :root { color: #1f2933; background: #f5f7fa; font: 16px/1.55 system-ui, sans-serif; }
  body { margin: 0 auto; max-width: 68rem; padding: 3rem 1.5rem 4rem; }
  header p { color: #52606d; margin: .3rem 0 0; max-width: 46rem; }
  h1 { font-size: 1.9rem; line-height: 1.2; margin: 0; letter-spacing: -.02em; }
  h2 { font-size: 1.05rem; margin: 0 0 .8rem; }
  .badge { display: inline-block; border-radius: 99px; padding: .15rem .8rem; font-weight: 600;
    font-size: .85rem; color: #fff; background: #16a34a; margin-bottom: .9rem; }
  .badge.no { background: #ea580c; }
  .tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); gap: 1rem;
    margin: 2rem 0; }
  .card { background: #fff; border: 1px solid #e4e7eb; border-radius: 12px; padding: 1.2rem 1.4rem; }
  .tile b { display: block; white-space: nowrap; font-size: 1.2rem; letter-spacing: -.03em;
    font-variant-numeric: tabular-nums; }
  .tile span, footer, td.id { color: #7b8794; font-size: .87rem; }
  figure { margin: 0 0 1rem; overflow-x: auto; }
  svg { width: 100%; height: auto; display: block; }
  table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
  th { text-align: right; font-size: .8rem; color: #7b8794; font-weight: 600; }
  td { text-align: right; border-top: 1px solid #e4e7eb; }
  th, td { padding: .45rem .6rem; }
  th:first-child, td:first-child, th.id, td.id { text-align: left; }
  td.id { font-family: ui-monospace, monospace; }
  footer { margin-top: 2rem; }
</style>
</head>
<body>
<header>
  <span class="badge$badge">$word</span>
  <h1>$title</h1>
  <p>$sentence</p>
</header>
<section class="tiles">$tiles</section>
<figure class="card">$picture</figure>
<section class="card"><h2>Versions</h2>
<table>
<thead>
<tr><th>#</th><th class="id">version</th><th>optimal moves</th><th>95 % interval</th><th>illegal</th></tr>
</thead>
<tbody>$rows</tbody>
</table></section>
<footer>Run $run, $method, seed $seed. The observation names a winning and a blocking cell where there is
one; the policy learns to use them from rewards alone. Optimal is the best depth-aware minimax move, asked
greedily over the whole vocabulary. Boards of the held-out symmetry classes are played but never published.
Rotations and reflections of a board count as one cluster in the intervals.</footer>
</body>
</html>
""")


def write_page(results: DemoResults, path: Path) -> None:
    """Write the page to a file."""
    page = _PAGE.substitute(
        verdict=escape(results.verdict),
        badge="" if results.passed else " no",
        word="improved" if results.passed else "no measurable improvement",
        title=f"A small model {'got better at' if results.passed else 'played'} tic-tac-toe",
        sentence=_sentence(results),
        tiles="".join(_tile(value, name) for value, name in _figures(results)),
        picture=write_svg(results),
        rows="".join(_rows(results)),
        run=escape(results.run_id),
        method=escape(results.method),
        seed=results.seed,
    )
    path.write_text(page, encoding="utf-8")


def _sentence(results: DemoResults) -> str:
    gain = results.gain
    return (
        f"From the base model to version {results.strengths[-1].number}, by {results.method}, optimal "
        f"moves on boards it never trained on changed by {points(gain)}."
    )


def _figures(results: DemoResults) -> list[tuple[str, str]]:
    activity = results.activity
    first, last = results.strengths[0].interval.mean, results.strengths[-1].interval.mean
    return [
        (f"{first:.1%} → {last:.1%}", "optimal moves"),
        (f"{results.before.loss:.1%} → {results.after.loss:.1%}", "games lost"),
        (f"{activity.games:,}", "games played"),
        (f"{activity.trajectories:,}", results.unit),
        (f"{activity.seconds:.0f} s", "from first game to last version"),
    ]


def _tile(value: str, name: str) -> str:
    return f'<div class="card tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>'


def _rows(results: DemoResults) -> list[str]:
    return [
        f'<tr><td>{each.number}</td><td class="id">{escape(each.version or "base")}</td>'
        f"<td>{each.interval.mean:.1%}</td><td>{each.interval.low:.1%} to {each.interval.high:.1%}</td>"
        f"<td>{each.illegal}</td></tr>"
        for each in results.strengths
    ]
