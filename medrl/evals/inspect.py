"""What the notebooks look at: a run's files as rows, tables and figures.

It reads what a run wrote; scores are in `scores`, answering in `run`. Figures
need matplotlib, which the core does not, so it is loaded when one is drawn.
"""

from collections.abc import Iterable, Mapping, Sequence
import fnmatch
import json
import math
import os
import pathlib
import textwrap
from typing import Any

from flax import traverse_util
import jax
import ml_collections
import numpy as np

from medrl import build
from medrl import lookup
from medrl import metrics
from medrl import types
from medrl.evals import run as evals
from medrl.evals import scores
from medrl.media import medium
from medrl.rewards import answer

Curves = Mapping[str, tuple[list[int], list[float]]]
Pair = tuple[types.Record, Mapping[str, str]]

_WIDTH = 44      # characters of a line below a picture
_LONGEST = 300   # characters shown of a completion
_TRUTH = 'lime'
_COLOURS = ('orange', 'deepskyblue', 'magenta', 'yellow')   # of the answers


def read_config(workdir: str | os.PathLike, name: str = 'config.json'
                ) -> ml_collections.ConfigDict:
  """The config a run was started with; 'eval_config.json' is what was scored.

  Raises:
    FileNotFoundError: it was never written; the message says by what it is.
  """
  path = pathlib.Path(workdir) / name
  if not path.is_file():
    raise FileNotFoundError(
        f'no file {str(path)!r}; python -m medrl.main writes it when it trains '
        f'into that --workdir (with --eval_only: eval_config.json)')
  return ml_collections.ConfigDict(json.loads(path.read_text()))


def open_run(workdir: str | os.PathLike) -> build.Run:
  """A run's parts on this machine's devices, whatever mesh it was trained on.

  Set to answer few records: one prompt a device, one program, greedy only.
  """
  config = read_config(workdir)
  config.mesh.update(data=-1, fsdp=1, sequence=1, tensor=1, slices=1)
  config.data.update(workers=0, buckets=config.data.buckets[-1:])
  config.eval.update(prompts=jax.device_count(), sampled=False)
  return build.run(config, workdir)


def differences(configs: Mapping[str, Any]) -> list[tuple]:
  """(key, value in each config) for each key on which they differ."""
  flat = [lookup.flat(c.to_dict()) for c in configs.values()]
  keys = sorted(set().union(*flat))
  rows = [(key, *(f.get(key, '(absent)') for f in flat)) for key in keys]
  return [row for row in rows if any(v != row[1] for v in row[2:])]


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
  """Aligned text: numbers to the right with four digits, the rest left."""
  def written(value):
    if isinstance(value, float):
      return f'{value:,.4g}'
    # True is an int to Python.
    return f'{value:,}' if type(value) is int else str(value)
  rows = [list(row) for row in rows]
  cells = [list(header), *([written(v) for v in row] for row in rows)]
  widths = [max(map(len, column)) for column in zip(*cells)]
  right = [bool(rows) and all(isinstance(r[i], (int, float)) for r in rows)
           for i in range(len(widths))]
  return '\n'.join('  '.join(
      c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right)
  ).rstrip() for line in cells)


def curves(folder: str | os.PathLike) -> Curves:
  """Metric -> (steps, values) of a folder's metrics.jsonl; {} without one."""
  path = pathlib.Path(folder) / 'metrics.jsonl'
  found = {}
  for row in metrics.read(path) if path.is_file() else []:
    for name, value in row.items():
      if name != 'step':
        steps, values = found.setdefault(name, ([], []))
        steps.append(row['step'])
        values.append(float(value))
  return found


def plot(runs: Mapping[str, Curves], panels: Mapping[str, Sequence[str]]):
  """A figure of curves, one panel for each title that has any.

  Args:
    runs: label -> curves.
    panels: title -> patterns of metric names, as in 'reward/part/*'.

  Returns:
    a matplotlib figure.

  Raises:
    ValueError: no run has any of the metrics.
  """
  lines = {}
  for title, patterns in panels.items():
    lines[title] = [
        (label, name, *curve) for label, found in runs.items()
        for name, curve in found.items()
        if any(fnmatch.fnmatchcase(name, p) for p in patterns)]
  lines = {title: found for title, found in lines.items() if found}
  if not lines:
    raise ValueError(f'no curve of {list(panels)} in {list(runs)}; has the run '
                     f'written metrics.jsonl?')
  figure, axes = _grid(len(lines), 3, (4.2, 2.8))
  for axis, (title, found) in zip(axes, lines.items()):
    names = {name for _, name, _, _ in found}
    for label, name, steps, values in found:
      shown = [label] * (len(runs) > 1) + [name] * (len(names) > 1)
      axis.plot(steps, values, label=' '.join(shown), linewidth=1.2,
                marker='.' if len(steps) < 30 else '')
    axis.set(title=title, xlabel='step')
    if len(found) > 1:
      axis.legend(fontsize='x-small')
  return figure


def answers(workdir: str | os.PathLike, suite: str = 'heldout_greedy'
            ) -> list[dict[str, Any]]:
  """The rows of answers.jsonl of one suite.

  Raises:
    FileNotFoundError: the workdir has none yet.
    ValueError: none of that suite.
  """
  path = pathlib.Path(workdir) / 'answers.jsonl'
  if not path.is_file():
    raise FileNotFoundError(f'no file {str(path)!r}; run python -m medrl.main '
                            f'with that --workdir and --eval_only first')
  rows = metrics.read(path)
  found = [row for row in rows if row['suite'] == suite]
  if not found:
    raise ValueError(f'{path} has no suite {suite!r}: ' + lookup.nearest(
        suite, sorted({row['suite'] for row in rows})))
  return found


def compare(rows_a, rows_b) -> dict[str, dict[str, float]]:
  """Each score of a minus that of b, as `scores.difference` gives them."""
  names = {scores.score_of(row['answer_type']) for row in rows_a}
  return {name: scores.difference(rows_a, rows_b, score=name)
          for name in sorted(names)}


def paired(answered: Mapping[str, Sequence[Mapping[str, Any]]],
           records: Iterable[types.Record], limit: int) -> list[Pair]:
  """Records with each label's completion, those answered differently first.

  Args:
    answered: label -> rows with 'record' (a digest) and 'completion', from
      answers.jsonl, or of rollouts.jsonl with one of the completions; a later
      row of a record counts.
    records: where to look the digests up.
    limit: pairs at most.

  Raises:
    ValueError: no record has an answer under all labels.
  """
  known = {evals.anonymous(r.source, r.id): r for r in records}
  texts = [{row['record']: row['completion'] for row in rows}
           for rows in answered.values()]
  common = [d for d in texts[0] if d in known and all(d in t for t in texts)]
  if not common:
    raise ValueError(f'none of {len(texts[0])} answered records is among the '
                     f'{len(known)} looked up; is it the same data root, split '
                     f'and options?')
  pairs = [(known[d], dict(zip(answered, (t[d] for t in texts))))
           for d in common]
  return sorted(pairs, key=lambda p: len(
      {str(answer.prediction(p[0], t)) for t in p[1].values()}) == 1)[:limit]


def show(pairs: Sequence[Pair], root: str):
  """A figure with a panel a record: its images, boxes, question, answers.

  The true box is green and dashed, predicted ones have a colour a label. Boxes
  are in pixels of the first image; further images, slices and frames are put
  at its right.

  Args:
    pairs: from `paired`.
    root: data root of the images.
  """
  figure, axes = _grid(len(pairs), 4, (3.6, 4.6))
  for axis, (record, texts) in zip(axes, pairs):
    images = [still for m in record.media
              for still in medium.stills(build.load(m, root))]
    axis.axis('off')
    if images:
      axis.imshow(_beside(images))
    said = []
    for number, (label, text) in enumerate(texts.items()):
      found = answer.prediction(record, text)
      said += [f'{label}: {"no answer" if found is None else found}',
               _readable(text)]
      _boxes(axis, record, found, label=label,
             edgecolor=_COLOURS[number % len(_COLOURS)])
    _boxes(axis, record, record.answer, edgecolor=_TRUTH, linestyle='--',
           label='truth')
    if axis.patches:
      axis.legend(fontsize='x-small', loc='lower right')
    options = [f'{k}. {v}' for k, v in record.options.items()]
    lines = [record.question, *options, f'truth: {record.answer}', *said]
    # A dollar sign in a report is no formula.
    axis.set_title('\n'.join(textwrap.fill(x, _WIDTH) for x in lines),
                   fontsize=7, loc='left', parse_math=False)
  return figure


def parameters(tree: Mapping[str, Any], depth: int = 2) -> list[tuple]:
  """(module, number, L2 norm) of nested parameters, cut at `depth` names.

  The last row is of all.
  """
  sums = {}
  for path, leaf in traverse_util.flatten_dict(tree).items():
    square = float(np.sum(np.square(np.asarray(leaf, np.float64))))
    for module in ('/'.join(path[:depth]), 'all'):
      count, total = sums.pop(module, (0, 0.))
      sums[module] = (count + leaf.size, total + square)
  return [(module, count, math.sqrt(total))
          for module, (count, total) in sums.items()]


def _boxes(axis, record: types.Record, value, **style) -> None:
  if record.answer_type not in scores.BOXES or value is None:
    return
  from matplotlib import patches
  found = [value] if record.answer_type == 'box' else value
  for number, (x1, y1, x2, y2) in enumerate(found):
    if number:
      style['label'] = '_'   # one line in the legend
    axis.add_patch(patches.Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False,
                                     linewidth=1.5, **style))


def _beside(images: Sequence[np.ndarray]) -> np.ndarray:
  height = max(image.shape[0] for image in images)
  return np.concatenate([
      np.pad(image, ((0, height - image.shape[0]), (0, 0), (0, 0)))
      for image in images], axis=1)


def _readable(text: str) -> str:
  """One line of printable characters; an untrained policy writes any."""
  plain = ''.join(c if c.isprintable() and c != '\ufffd' else ' '
                  for c in text)
  return textwrap.shorten(plain, _LONGEST)


def _grid(count: int, columns: int, size: tuple[float, float]):
  """A figure with `count` axes in rows of `columns`."""
  try:
    from matplotlib import pyplot
  except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f'figures need matplotlib ({error}); install it with: pip install '
        f'matplotlib') from error
  columns = min(columns, count)
  rows = -(-count // columns)
  figure, axes = pyplot.subplots(
      rows, columns, squeeze=False, layout='constrained',
      figsize=(size[0] * columns, size[1] * rows))
  for axis in axes.flat[count:]:
    axis.axis('off')
  return figure, axes.flat[:count]
