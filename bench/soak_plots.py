"""Draws the plots of the long run.

Only what draws imports this: pygal puts an importer of its own into `sys.meta_path`, and Python 3.11
warns of that with every later import.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from xml.etree.ElementTree import Element

import pygal
from pygal.style import Style

from bench.soak_report import FILE_SERIES, Plot, Soak

POINTS_MAX = 120
"""Of a line in a plot: each is the median of the samples that fall together."""
FILE_MB_DRAWN = 0.2
"""A file that was never larger has no line of its own; it is in the sum and in soak.json."""

_STYLE = Style(
    background="white",
    plot_background="white",
    foreground="#333333",
    foreground_strong="#111111",
    foreground_subtle="#bbbbbb",
    colors=("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf"),
    font_family="sans-serif",
    guide_stroke_color="#dddddd",
    major_guide_stroke_color="#bbbbbb",
    guide_stroke_dasharray="2,4",
    major_guide_stroke_dasharray="2,4",
    label_font_size=12,
    major_label_font_size=12,
    legend_font_size=13,
    title_font_size=15,
)


def drawn(plot: Plot, soak: Soak) -> bytes:
    """The picture, as SVG."""
    lines = dict(plot.lines)
    if plot.name == "files":
        lines |= {name.removeprefix(FILE_SERIES): name for name in _files_worth_a_line(soak)}
    chart = pygal.XY(
        style=_STYLE,
        js=(),
        width=860,
        height=340,
        title=plot.title,
        x_title="minutes",
        show_dots=False,
        stroke_style={"width": 1.6},
        show_x_guides=False,
        include_x_axis=True,
        legend_at_bottom=True,
        legend_at_bottom_columns=len(lines),
        truncate_legend=-1,
        x_value_formatter=lambda minutes: f"{minutes:g}",
        value_formatter=lambda value: f"{value:,g}",
    )
    for title, name in lines.items():
        chart.add(title, list(_thinned(soak.at_s, soak.series[name])))
    chart.add_xml_filter(_without_scripts)
    rendered = chart.render()
    assert isinstance(rendered, bytes)
    return rendered


def _without_scripts(svg: Element) -> Element:
    """Settings for pygal's own script, which a picture on a page cannot run."""
    for parent in list(svg.iter()):
        for script in parent.findall("script"):
            parent.remove(script)
    return svg


def _files_worth_a_line(soak: Soak) -> list[str]:
    return [
        name
        for name in sorted(soak.series)
        if name.startswith(FILE_SERIES) and max(value or 0.0 for value in soak.series[name]) > FILE_MB_DRAWN
    ]


def _thinned(at_s: Sequence[float], values: Sequence[float | None]) -> Iterator[tuple[float, float]]:
    """At most `POINTS_MAX` points: minutes, and the median of the samples about then."""
    seen = [(at, value) for at, value in zip(at_s, values, strict=True) if value is not None]
    step = -(-len(seen) // POINTS_MAX) or 1
    for start in range(0, len(seen), step):
        times, part = zip(*seen[start : start + step], strict=True)
        yield round(median(times) / 60, 3), float(f"{median(part):.4g}")
