"""A container's life as one HTML page: a bar of states, a bar a command in it, the table of events.

The page is self-contained, and says so itself: its policy lets it load nothing and run no script.
Every text in it may come from an image or a user, so all of it is escaped.
"""

from __future__ import annotations

from html import escape

from .. import lives
from . import life_story, reads

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterator

COLOURS = {
    "creating": "#b8b8c8",
    "created": "#9aa5c4",
    "initialized": "#e0b84c",
    "running": "#4c9a5f",
    "paused": "#c9a13b",
    "exited": "#8a6d5c",
    "removing": "#c96a5a",
}
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em }
h1 { font-size: 1.4em } code { background: #8882; padding: 0 .3em }
svg { width: 100%; height: 5.5em; display: block; margin: 1em 0 }
svg text { font-size: 11px } table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .25em .8em .25em 0; border-bottom: 1px solid #8884;
  vertical-align: top } td.n { text-align: right; white-space: nowrap }
.key { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 1em }
tr.plan { opacity: .55 } tr.bad td { color: #b3261e }
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
WIDTH = 1000
LEAST = 2
"""Units of the drawing; the shortest state is still to be seen."""


def _scale(life: lives.Life, now: int) -> tuple[int, int]:
    end = life.until or max(now, life.moments[-1].time)
    return life.since, max(end, life.since + 1)


def _bars(life: lives.Life, now: int) -> Iterator[str]:
    begin, end = _scale(life, now)

    def x(time: int) -> float:
        return round(WIDTH * (min(max(time, begin), end) - begin) / (end - begin), 2)

    for span in life.spans:
        if span.state == lives.GONE:
            continue
        left, right = x(span.since), x(span.until or end)
        told = f"{span.state}: {lives.exact((span.until or end) - span.since)}"
        colour = COLOURS.get(span.state, "#777")
        yield (
            f'<rect x="{left}" y="8" width="{max(right - left, LEAST)}" height="26" '
            f'fill="{colour}"><title>{escape(told)}</title></rect>'
        )
    for moment in life.moments:
        if moment.opens and moment.closed:
            continue
        at = x(moment.time)
        told = f"{moment.type} {moment.details}".strip()
        colour = "#b3261e" if _bad(moment) else "currentColor"
        yield (
            f'<line x1="{at}" x2="{at}" y1="38" y2="54" stroke="{colour}" stroke-width="1.5">'
            f"<title>{escape(told)}</title></line>"
        )
        if moment.took:
            start = x(moment.time - moment.took)
            yield (
                f'<rect x="{start}" y="56" width="{max(at - start, 1)}" height="5" fill="{colour}" '
                f'opacity=".5"><title>{escape(told)}: {lives.exact(moment.took)}</title></rect>'
            )


def _bad(moment: lives.Moment) -> bool:
    data = moment.data
    return moment.type.endswith(".failed") or bool(data.get("exit_code")) or bool(data.get("oom"))


def _rows(life: lives.Life) -> Iterator[str]:
    for moment in life.moments:
        kinds = [name for name, holds in (("plan", moment.opens), ("bad", _bad(moment))) if holds]
        took = "" if moment.took is None else lives.exact(moment.took)
        after = lives.exact(moment.time - life.since)
        cells = (
            f'<td class="n">{moment.seq}</td>',
            f"<td>{escape(reads.rfc3339(moment.time))}</td>",
            f'<td class="n">+{escape(after)}</td>',
            f'<td class="n">{escape(took)}</td>',
            f"<td>{escape(moment.type)}</td>",
            f"<td>{escape(life_story.who(moment.actor))}</td>",
            f"<td>{escape(moment.details)}</td>",
        )
        yield f'<tr class="{" ".join(kinds)}">{"".join(cells)}</tr>'


def page(life: lives.Life, now: int) -> str:
    """The whole page."""
    name = escape(f"{life.name} ({life.id[: reads.SHORT]})")
    keys = "".join(
        f'<span class="key" style="background:{COLOURS.get(state, "#777")}"></span>'
        f"{escape(state)} {escape(lasted)}"
        for state, lasted in life_story.states(life, now)
        if state != lives.GONE
    )
    end = reads.rfc3339(life.until) if life.until else "now"
    heads = ("seq", "time", "after", "took", "event", "who", "details")
    head = "".join(f"<th>{text}</th>" for text in heads)
    rows = "\n".join(_rows(life))
    bars = "\n".join(_bars(life, now))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{name}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{name}</h1>
<p>{escape(life.image)}: <code>{escape(" ".join(life.command))}</code>, {escape(life.state)}</p>
<svg viewBox="0 0 {WIDTH} 64" preserveAspectRatio="none" role="img" aria-label="timeline">
{bars}
</svg>
<p>{escape(reads.rfc3339(life.since))} to {escape(end)}:{keys}</p>
<table>
<thead><tr>{head}</tr></thead>
<tbody>
{rows}
</tbody>
</table>
</body>
</html>
"""
