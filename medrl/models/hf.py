"""Published safetensors files -> parameter tree, by a family's one table.

Import only; nothing is downloaded and nothing is unpickled.
"""

import itertools
import json
import math
import operator
import pathlib

from flax import traverse_util
import numpy as np
import safetensors

from medrl import lookup


def read_config(folder) -> dict:
  """The folder's config.json.

  Raises:
    FileNotFoundError: the folder holds no checkpoint.
  """
  path = pathlib.Path(folder) / 'config.json'
  if not path.is_file():
    raise FileNotFoundError(
        f'{path} is missing: expected the folder of a downloaded checkpoint, '
        f'with config.json, *.safetensors and the tokenizer files')
  return json.loads(path.read_text())


def _tensors(folder, prefixes):
  """Published name, in its first form -> (file, name as written)."""
  found = {}
  for path in sorted(pathlib.Path(folder).glob('*.safetensors')):
    for name in _names(path):
      plain = name
      for written, released in prefixes:
        if plain.startswith(written):
          plain = released + plain[len(written):]
      found[plain] = (path, name)
  if not found:
    raise FileNotFoundError(f'{folder} holds no .safetensors file')
  return found


def _names(path):
  try:
    with safetensors.safe_open(path, 'np') as file:
      return list(file.keys())
  except safetensors.SafetensorError as error:
    raise ValueError(f'{path} is not a whole safetensors file ({error}); '
                     f'download or export it again') from error


def _fits(raw, target, turned) -> bool:
  """Whether a shape fills `target`, split at a border between its axes."""
  borders = itertools.accumulate(target[::-1] if turned else target,
                                 operator.mul)
  return math.prod(raw) == math.prod(target) and raw[0] in borders


def load(folder, specs, table, prefixes=(), dtype=np.float32):
  """Reads every parameter of `specs`, as NumPy arrays on the host.

  Args:
    folder: a checkpoint folder.
    specs: tree of `params.Spec`.
    table: rows (our path, published name, transposed); see a family's HF_TABLE.
    prefixes: (written, released) name prefixes to translate.
    dtype: dtype of the arrays returned.

  Returns:
    Nested dict of the structure of `specs`.

  Raises:
    ValueError: tensors are missing, surplus or misshapen, all named at once; or
      a file is cut off.
  """
  flat = traverse_util.flatten_dict(specs, sep='/')
  found = _tensors(folder, prefixes)
  names, wrong, out = set(), [], {}
  rows = {path: (name, turned) for path, name, turned in table}
  for path, spec in flat.items():
    name, turned = rows[path]
    stacked = spec.axes[0] == 'layers'
    wanted = [name.format(i) for i in range(spec.shape[0])] if stacked else [
        name]
    names.update(wanted)
    absent = [n for n in wanted if n not in found]
    if absent:
      wrong.append(f'missing {absent[0]} (and {len(absent) - 1} more like it); '
                   + lookup.nearest(absent[0], list(found)))
      continue
    out[path] = np.empty(spec.shape, dtype)
    for i, n in enumerate(wanted):
      target = out[path][i] if stacked else out[path]
      raw = _read(*found[n])
      if not _fits(raw.shape, target.shape, turned):
        wrong.append(f'{n} has shape {raw.shape}, which does not fill '
                     f'{target.shape}{" transposed" if turned else ""}')
        continue
      raw = raw.reshape(raw.shape[0], -1).T if turned else raw
      target[...] = raw.reshape(target.shape).astype(dtype)
  # A tied checkpoint may carry the head again; it is the embedding.
  surplus = set(found) - names - {name for _, name, _ in table}
  wrong += [f'surplus {n}' for n in sorted(surplus)[:10]]
  if wrong:
    raise ValueError(f'{folder} does not hold this model:\n  '
                     + '\n  '.join(wrong))
  return traverse_util.unflatten_dict(out, sep='/')


def _read(path, name):
  with safetensors.safe_open(path, 'np') as file:
    return file.get_tensor(name)
