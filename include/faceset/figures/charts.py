"""Charts as SVG, drawn by hand: no script, no library, colours from the style sheet; text stands beside them."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

_BAR = Markup(
    '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
    '<rect class="track" width="100" height="10"/>'
    '<rect class="{kind}" x="{x:.2f}" width="{width:.2f}" height="10"/></svg>'
)
_WIDTH, _HEIGHT, _FOOT = 600, 180, 24


def bar(part: float, whole: float, start: float = 0, kind: str = "part") -> Markup:
    """A bar from `start` on, as long as `part` is of `whole`; whatever is not nothing can be seen."""
    if not whole:
        return Markup("")
    width = max(0.4, 100 * part / whole) if part else 0
    return _BAR.format(kind=kind, x=min(100 * start / whole, 100 - width), width=width)


def columns(counts: Mapping[str, int], label: str) -> Markup:
    """A histogram: a column for each count, with its name below and its number above."""
    if not counts:
        return Markup("")
    highest, step = max(*counts.values(), 1), _WIDTH / len(counts)
    drawn = [_column(name, count, highest, at * step, step) for at, (name, count) in enumerate(counts.items())]
    return _chart(label, drawn)


def _column(name: str, count: int, highest: int, x: float, step: float) -> Markup:
    height = (_HEIGHT - _FOOT - 20) * count / highest
    top = _HEIGHT - _FOOT - height
    return Markup(
        '<rect class="part" x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
        '<text x="{middle:.1f}" y="{above:.1f}">{count}</text><text x="{middle:.1f}" y="{foot}">{name}</text>'
    ).format(
        x=x + step * 0.1, top=top, width=step * 0.8, height=height, middle=x + step / 2, above=top - 4,
        count=f"{count:,}", foot=_HEIGHT - 8, name=name,
    )  # fmt: skip


def lines(series: Mapping[str, Sequence[int]], names: Sequence[str], label: str) -> Markup:
    """Lines over the same points, from left to right; each on a scale of its own, from nothing to its highest."""
    if len(names) < 2:
        return Markup("")
    step, room = _WIDTH / (len(names) - 1), _HEIGHT - _FOOT - 20
    drawn = []
    for at, (name, values) in enumerate(series.items()):
        highest = max(*values, 1)
        points = [(x * step, _HEIGHT - _FOOT - room * value / highest) for x, value in enumerate(values)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        drawn.append(
            Markup(
                '<polyline class="line{at}" points="{path}"><title>{name}</title></polyline>'
                '<text class="left line{at}" x="{x}" y="12">{name}: {first} → {last}</text>'
            ).format(
                at=at, path=path, name=name, x=4 + at * _WIDTH // 2, first=f"{values[0]:,}", last=f"{values[-1]:,}"
            )
        )
    ends = Markup('<text class="left" x="0" y="{y}">{first}</text><text class="right" x="{x}" y="{y}">{last}</text>')
    drawn.append(ends.format(y=_HEIGHT - 8, x=_WIDTH, first=names[0], last=names[-1]))
    return _chart(label, drawn)


def _chart(label: str, drawn: Sequence[Markup]) -> Markup:
    head = Markup('<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">')
    return head.format(width=_WIDTH, height=_HEIGHT, label=label) + Markup("").join(drawn) + Markup("</svg>")
