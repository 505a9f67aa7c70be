"""A sweep's table as one HTML page: self-contained, no script, light and dark.

Every text is escaped. Not here: what the numbers are (sweep_report).
"""

from collections.abc import Mapping, Sequence
import html
import json
import math
from typing import Any, NamedTuple

from launch import sweep_points
from launch import sweep_stats

_WIDTH, _HEIGHT, _MARGIN = 160, 22, 8   # of a drawn interval, in pixels

_STYLE = '''
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff;
  --faint: #667080; --line: #d9dee5; --band: #e8edf3; --mark: #1f5fbf;
  --better: #1a7f4b; --worse: #b3361f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --paper: #14171c;
  --faint: #98a2b0; --line: #333a44; --band: #262d37; --mark: #7fb0ff;
  --better: #58c78c; --worse: #ff8a73; } }
body { background: var(--paper); color: var(--ink); margin: 2rem auto;
  max-width: 110rem; padding: 0 1rem; font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.3rem; margin: 0 0 .3rem; }
p { max-width: 52rem; } .faint { color: var(--faint); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .55rem; text-align: left; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
thead th { white-space: normal; border-bottom-width: 2px;
  vertical-align: bottom; font-weight: 600; }
.number { text-align: right; }
.better { color: var(--better); font-weight: 600; }
.worse { color: var(--worse); font-weight: 600; }
.equivalent { font-weight: 600; } .undecided, .missing { color: var(--faint); }
.failed { color: var(--worse); }
svg { display: block; } .axis { stroke: var(--line); }
.band { fill: var(--band); } .bar { stroke: var(--mark); stroke-width: 2; }
.dot { fill: var(--mark); } .seed { fill: none; stroke: var(--faint); }
'''


class Scale(NamedTuple):
  """Bounds of what a column of drawn intervals shows."""
  low: float
  high: float


def number(value: float | None, signed: bool = False) -> str:
  """Four significant digits; nothing where there is no number."""
  if value is None:
    return ''
  return f'{value:+.4g}' if signed else f'{value:.4g}'


def interval(low: float | None, high: float | None) -> str:
  """'[low, high]', or nothing."""
  if low is None or high is None:
    return ''
  return f'[{low:.4g}, {high:.4g}]'


def written(value: Any) -> str:
  """A config's value in a cell."""
  return value if isinstance(value, str) else json.dumps(value)


def page(found: Mapping[str, Any]) -> str:
  """The table of `sweep_report.table` as a page."""
  short = sweep_points.shortened(found['keys'])
  rows = found['rows']
  plain = _scale([v for row in rows for v in (
      row['low'], row['high'], *_seeds(row))])
  gains = _scale([v for row in rows for v in (
      row['difference_low'], row['difference_high'], row['difference'],
      -found['rope'], found['rope'])])
  head = ''.join(
      f'<th scope="col" title="{_safe(key)}">{_safe(tail)}</th>'
      for key, tail in short.items())
  body = '\n'.join(_row(row, short, plain, gains, found['rope'])
                   for row in rows)
  better = 'larger' if found['larger'] else 'smaller'
  return f'''<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sweep of {_safe(found['config'])}</title>
<style>{_STYLE}</style></head><body>
<h1>Sweep of {_safe(found['config'])}</h1>
<p>{_safe(found['metric'])}, {better} is better; {_counts(rows)}. Baseline:
{_safe(found['baseline'])}. Differences within &plusmn;{found['rope']:g} are
taken to be of no matter (the shaded band).</p>
<div class="wide"><table>
<thead><tr>{head}<th scope="col">status</th>
<th scope="col" class="number">seeds</th>
<th scope="col" class="number">mean</th>
<th scope="col">95 % interval</th>
<th scope="col">{_axis(plain)}</th>
<th scope="col" class="number">minus baseline</th>
<th scope="col">95 % interval</th><th scope="col">{_axis(gains)}</th>
<th scope="col">verdict</th></tr></thead>
<tbody>
{body}
</tbody></table></div>
<p class="faint">Small circles are seeds, dots means, bars 95 % intervals over
seeds; only finished runs count. {_safe(sweep_stats.RULE)}</p>
</body></html>
'''


def _scale(values: Sequence[float | None]) -> Scale:
  """Bounds that hold all of `values` that there are."""
  there = [v for v in values if v is not None and math.isfinite(v)] or [0.]
  low, high = min(there), max(there)
  if low == high:
    room = abs(low) * .1 or 1.
    low, high = low - room, high + room
  return Scale(low, high)


def _at(scale: Scale, value: float) -> float:
  """Pixels from the left."""
  share = (value - scale.low) / (scale.high - scale.low)
  return _MARGIN + share * (_WIDTH - 2 * _MARGIN)


def _row(row, short, plain, gains, rope) -> str:
  kind = row['status'] if row['status'].isalpha() else ''
  pairs = f'{row["pairs"]} pairs of seeds' if row['pairs'] else ''
  gain = row['difference'], row['difference_low'], row['difference_high']
  cells = [
      *(('', written(row['values'][key])) for key in short),
      (f'class="{kind}"', row['status']),
      ('class="number"', str(row['seeds'])),
      ('class="number"', number(row['mean'])),
      ('', interval(row['low'], row['high']))]
  shown = ''.join(f'<td {how}>{_safe(cell)}</td>' for how, cell in cells)
  return f'''<tr title="{_safe(row['point'])}">{shown}
<td>{_drawn(plain, (row['mean'], row['low'], row['high']), _seeds(row))}</td>
<td class="number">{number(row['difference'], signed=True)}</td>
<td title="{pairs}">{interval(*gain[1:])}</td>
<td>{_drawn(gains, gain, (), rope)}</td>
<td class="{row['verdict']}">{row['verdict']}</td></tr>'''


def _drawn(scale: Scale, estimate, seeds, rope: float | None = None) -> str:
  """(mean, low, high) and seeds as a picture; with `rope` also that band."""
  (value, low, high), middle = estimate, _HEIGHT / 2
  if value is None and not seeds:
    return ''
  def circle(kind, of, radius):
    return (f'<circle class="{kind}" cx="{_at(scale, of):.1f}" '
            f'cy="{middle}" r="{radius}"/>')
  def line(kind, ends, heights):
    (x1, x2), (y1, y2) = ends, heights
    return (f'<line class="{kind}" x1="{_at(scale, x1):.1f}" y1="{y1}" '
            f'x2="{_at(scale, x2):.1f}" y2="{y2}"/>')
  parts = []
  if rope is not None:
    left, right = _at(scale, -rope), _at(scale, rope)
    parts = [f'<rect class="band" x="{left:.1f}" y="0" '
             f'width="{right - left:.1f}" height="{_HEIGHT}"/>',
             line('axis', (0, 0), (0, _HEIGHT))]
  if low is not None:
    parts.append(line('bar', (low, high), (middle, middle)))
  parts += [circle('seed', seed, 3) for seed in seeds]
  if value is not None:
    parts.append(circle('dot', value, 4))
  return (f'<svg width="{_WIDTH}" height="{_HEIGHT}" aria-hidden="true">'
          f'{"".join(parts)}</svg>')


def _axis(scale) -> str:
  """The ends of a scale, above its column."""
  return (f'<span class="faint">{scale.low:.3g} &hellip; {scale.high:.3g}'
          f'</span>')


def _seeds(row) -> list[float]:
  return [run['value'] for run in row['runs'].values()
          if run['value'] is not None]


def _counts(rows) -> str:
  """How many runs are what."""
  found = [run['status'] for row in rows for run in row['runs'].values()]
  counts = {status: found.count(status) for status in sorted(set(found))}
  return f'{len(rows)} points, runs: ' + ', '.join(
      f'{count} {status}' for status, count in counts.items())


def _safe(text: str) -> str:
  return html.escape(str(text))
