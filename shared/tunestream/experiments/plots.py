"""Pictures of an experiment: metric by setting, baseline beside tuned, loss curves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final

from tunestream.experiments.results import MetricEstimate
from tunestream.experiments.summary import ArmSummary, Summary
from tunestream.reporting.plots import ACCENT, GRID, INK, MUTED, new_figure, remove_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_comparison", "draw_curves", "draw_metric"]

# Okabe and Ito's, which most people with a colour vision deficiency can distinguish.
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5f4b8b", "#7f7f7f")
_PANELS: Final = 4  # settings beside one another; more are too small to read
_NAMED: Final = 8  # curves with a name; more are drawn as one crowd
_STEP: Final = 0.12  # from one value of a setting to the next, the room that its arms share


def draw_metric(summary: Summary, metric: str) -> Figure | None:
    """Draw a metric by each swept setting: a point an arm, with its interval, and the mean of all arms.

    Returns:
        None when no setting is swept, or no arm has the metric.
    """
    measured = [(arm, value) for arm in summary.arms if (value := arm.value(metric))]
    keys = summary.swept[:_PANELS]
    if not keys or not measured:
        return None
    figure = new_figure(4.2 * len(keys) + 0.6, 3.9)
    panels = figure.subplots(1, len(keys), squeeze=False, sharey=True)[0]
    for axes, key in zip(panels, keys, strict=True):
        _by_setting(axes, key, measured, summary.best)
    panels[0].set_ylabel(metric, color=MUTED)
    return figure


def draw_comparison(arm: ArmSummary) -> Figure | None:
    """Draw the baseline beside the tuned model for each metric that is a share.

    Returns:
        None when there is none.
    """
    qa = arm.qa
    if qa is None:
        return None
    names = [name for name, value in qa.tuned.items() if _is_share(value, qa.baseline.get(name))]
    if not names:
        return None
    figure = new_figure(8.4, 0.62 * len(names) + 1.5)
    axes = figure.subplots()
    for row, name in enumerate(reversed(names)):
        before, after = qa.baseline.get(name), qa.tuned[name]
        if before is not None:
            axes.plot(
                [before.mean, after.mean], [row, row], color=GRID, lw=7, solid_capstyle="round", zorder=1
            )
            _point(axes, before, row, MUTED, "baseline" if row == 0 else None)
        _point(axes, after, row, ACCENT, "tuned" if row == 0 else None)
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.6, len(names) - 0.4), yticks=range(len(names)))
    axes.set_yticklabels(reversed(names))
    axes.grid(axis="x", color=GRID)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False, labelcolor=INK)
    remove_frame(axes)
    axes.tick_params(axis="y", colors=INK)
    return figure


def draw_curves(arms: Sequence[ArmSummary], best: str | None) -> Figure | None:
    """Draw the losses of the trainings; arms that share a training share a curve.

    Returns:
        None when nothing was trained.
    """
    curves = _distinct_curves(arms)
    if not curves:
        return None
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415 - an extra

    figure = new_figure(8.4, 3.9)
    axes = figure.subplots()
    for number, (names, curve) in enumerate(curves):
        steps, losses = zip(*curve, strict=True)
        few = len(curves) <= _NAMED
        axes.plot(
            steps, losses,
            color=_COLOURS[number % len(_COLOURS)] if few else (ACCENT if best in names else MUTED),
            lw=2.2 if best in names else 1.5,
            alpha=1.0 if few or best in names else 0.35,
            marker="o" if len(curve) <= 12 else None, ms=4,
            zorder=3 if best in names else 2,
            label=_label(names, best) if few or best in names else None,
        )  # fmt: skip
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", color=GRID)
    axes.margins(x=0.02)
    if len(curves) > 1:
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, labelcolor=INK, fontsize=9)
    remove_frame(axes)
    return figure


def _by_setting(
    axes: Axes, key: str, measured: Sequence[tuple[ArmSummary, MetricEstimate]], best: str | None
) -> None:
    groups: dict[str, list[tuple[ArmSummary, MetricEstimate]]] = defaultdict(list)
    for arm, value in sorted(measured, key=lambda each: _order(each[0].arm.settings.get(key))):
        groups[_short(arm.arm.settings.get(key))].append((arm, value))
    for place, members in enumerate(groups.values()):
        for number, (arm, value) in enumerate(members):
            shift = (number - (len(members) - 1) / 2) * min(_STEP, 0.6 / len(members))
            _upright(axes, place + shift, value, best=arm.name == best)
    means = [fmean(value.mean for _, value in members) for members in groups.values()]
    axes.plot(range(len(means)), means, color=MUTED, lw=1.2, ls=(0, (4, 3)), zorder=1)
    axes.set(xlim=(-0.5, len(groups) - 0.5), xticks=range(len(groups)))
    axes.set_xticklabels(groups, rotation=20 if sum(map(len, groups)) > 28 else 0)
    axes.set_xlabel(key)
    axes.grid(axis="y", color=GRID)
    remove_frame(axes)
    axes.tick_params(axis="x", colors=INK)


def _upright(axes: Axes, x: float, value: MetricEstimate, *, best: bool) -> None:
    colour = _COLOURS[1] if best else ACCENT
    if value.low is not None and value.high is not None:
        axes.plot([x, x], [value.low, value.high], color=colour, lw=1.6, alpha=0.45, zorder=2)
    axes.plot([x], [value.mean], color=colour, marker="o", ms=6.5, zorder=3)
    if best:
        axes.annotate(
            "best", (x, value.mean), (7, 4), textcoords="offset points", color=colour, fontsize=9,
            fontweight="bold",
        )  # fmt: skip


def _point(axes: Axes, value: MetricEstimate, row: int, colour: str, label: str | None) -> None:
    if value.low is not None and value.high is not None:
        axes.plot([value.low, value.high], [row, row], color=colour, lw=1.8, alpha=0.55, zorder=2)
    axes.plot([value.mean], [row], color=colour, marker="o", ms=8, ls="", zorder=3, label=label)


def _is_share(*values: MetricEstimate | None) -> bool:
    return all(value is None or 0.0 <= value.mean <= 1.0 for value in values)


def _order(value: Any) -> tuple[bool, float, str]:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return (not is_number, float(value) if is_number else 0.0, str(value))


def _short(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 24 else f"{text[:11]}…{text[-12:]}"


def _distinct_curves(arms: Sequence[ArmSummary]) -> list[tuple[list[str], list[tuple[float, float]]]]:
    found: dict[tuple[tuple[float, float], ...], list[str]] = defaultdict(list)
    for arm in arms:
        if arm.curve:
            found[tuple(arm.curve)].append(arm.name)
    return [(names, list(curve)) for curve, names in found.items()]


def _label(names: Sequence[str], best: str | None) -> str:
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"{shown} (best)" if best in names else shown
