"""A small chart of the jobs that ended in each minute, as SVG without styles and scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pacifica_notifications_consumer.settings.converters import counted
from pacifica_notifications_runner.process.formats import clock
from pacifica_notifications_runner.status.pages.markup import Markup, tag

_WIDTH, _HEIGHT, _BAR, _GAP = 600, 80, 10, 2
_STATES = ("succeeded", "dead")


def throughput(minutes: Sequence[Mapping[str, Any]]) -> Markup:
    """The chart of the API's ``ended_by_minute``."""
    succeeded, dead = (sum(each[state] for each in minutes) for state in _STATES)
    most = max((each["succeeded"] + each["dead"] for each in minutes), default=0)
    summary = (
        f"In the last {len(minutes)} minutes {counted(succeeded, 'job')} succeeded and {dead:,} "
        f"{'is' if dead == 1 else 'are'} dead; at most {most:,} ended in a minute."
    )
    bars = []
    for number, each in enumerate(minutes):
        bottom = _HEIGHT
        title = tag("title", f"{clock(each['minute'])[11:16]}: {each['succeeded']} succeeded, {each['dead']} dead")
        for state in filter(each.get, _STATES):
            height = max(2.0, _HEIGHT * each[state] / most)
            bottom -= height
            shape = f'x="{number * _BAR + _GAP / 2:g}" y="{bottom:g}" width="{_BAR - _GAP}" height="{height:g}"'
            bars.append(Markup(f'<rect class="{state}" {shape}>{title}</rect>'))
    axis = tag("line", x1=0, y1=_HEIGHT, x2=_WIDTH, y2=_HEIGHT, class_="axis")
    box = {"viewBox": f"0 -2 {_WIDTH} {_HEIGHT + 4}", "preserveAspectRatio": "none"}
    drawing = tag("svg", axis, bars, role="img", aria_label=summary, class_="chart", **box)
    return tag("figure", drawing, tag("figcaption", summary))
