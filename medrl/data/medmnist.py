"""MedMNIST archives as questions with options.

Yang et al., "MedMNIST v2", Scientific Data 10 (2023): small images of one
label each, in `.npz` files with `{train,val,test}_{images,labels}`. The splits
are the publisher's; archives name no patient, so `subject` is empty. Images
are read by `medrl.media.image.load_npz`, not here. No multi-label sets.
"""

from collections.abc import Iterator, Sequence
import pathlib

import numpy as np

from medrl import types

_NAMES = {'train': 'train', 'validation': 'val', 'test': 'test'}
_LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'


def records(root: str, split: str, *, folder: str, question: str,
            options: Sequence[str], size: int = 112, seed: int = 0,
            permute: bool = True, balance: bool = False,
            limit: int = 0) -> Iterator[types.Record]:
  """Records of one split of all archives in a folder that have it.

  Args:
    root: data root.
    split: 'train', 'validation' or 'test'.
    folder: with `.npz` files, relative to `root`. Where the root has no such
      folder, the archives that lie in the root itself are taken, so that other
      films are scored by naming their folder as root.
    question: asked of every image.
    options: name of each label, in the order of the labels 0, 1, ...
    size: side in pixels to which images are resized; 0 for their own.
    seed: of the order of options.
    permute: whether each record has its options in an order of its own.
    balance: repeats the records of rarer labels (each once, in order, then
      again from the first) until every label is as frequent as the commonest.
      A repeated record keeps its id: switch it off for evaluation.
    limit: images at most, before balancing; 0 for all.

  Yields:
    Records of type 'choice', `meta` with 'label' and 'class'.

  Raises:
    FileNotFoundError: no such folder, or no archive in it.
    ValueError: no archive has the split, or labels are not those of `options`.
  """
  if split not in _NAMES:
    raise ValueError(f'split {split!r}; expected one of {", ".join(_NAMES)}')
  if not 2 <= len(options) <= len(_LETTERS):
    raise ValueError(f'{len(options)} options; expected 2 to {len(_LETTERS)}')
  found = []
  for path, labels in _labels(root, folder, _NAMES[split]):
    _check(path, labels, options)
    for index, label in enumerate(labels.ravel().tolist()):
      media = types.Media(
          path, 'medrl.media.image.load_npz',
          {'key': f'{_NAMES[split]}_images', 'index': index, 'size': size})
      rng = np.random.default_rng((seed, index))
      order = rng.permutation(len(options)) if permute else range(len(options))
      found.append(_record(media, question, options, label, order))
  found = found[:limit or None]
  yield from _balanced(found) if balance else found


def _labels(root, folder, name) -> list[tuple[str, np.ndarray]]:
  """(path below root, labels) of each archive with the split `name`."""
  base = pathlib.Path(root) / folder
  if not base.is_dir():
    base = pathlib.Path(root)
  paths = sorted(base.glob('*.npz'))
  if not paths:
    raise FileNotFoundError(
        f'no .npz archive in {str(base)!r} (data root {str(root)!r}, folder '
        f'{folder!r}); expected one with {name}_images and {name}_labels')
  found, held = [], []
  for path in paths:
    with np.load(path, allow_pickle=False) as archive:
      held.append(f'{path.name}: {", ".join(archive.files)}')
      if {f'{name}_images', f'{name}_labels'} <= set(archive.files):
        # As posix, so that a record reads the same on every machine.
        found.append((path.relative_to(root).as_posix(),
                      archive[f'{name}_labels']))
  if not found:
    raise ValueError(f'no archive in {str(base)!r} has {name}_images and '
                     f'{name}_labels; there is {"; ".join(held)}')
  return found


def _check(path, labels, options) -> None:
  if labels.ndim == 2 and labels.shape[1] != 1 or labels.ndim > 2:
    raise ValueError(f'{path}: labels {list(labels.shape)}; expected one label '
                     f'an image, [n] or [n, 1]')
  wrong = sorted(set(labels.ravel().tolist()) - set(range(len(options))))
  if wrong:
    raise ValueError(f'{path}: labels {wrong} have no name among options '
                     f'{tuple(options)}; expected a name for each label')


def _record(media, question, options, label, order) -> types.Record:
  letters = {_LETTERS[place]: options[which]
             for place, which in enumerate(order)}
  answer = _LETTERS[list(order).index(label)]
  stem = pathlib.PurePosixPath(media.path).stem
  return types.Record(
      id=f'{stem}/{media.options["key"]}/{media.options["index"]}',
      question=question, answer=answer, answer_type='choice', media=(media,),
      options=letters, source=media.path, task=stem,
      meta={'label': label, 'class': options[label]})


def _balanced(found: list[types.Record]) -> Iterator[types.Record]:
  groups = {}
  for record in found:
    groups.setdefault(record.meta['label'], []).append(record)
  most = max(map(len, groups.values()), default=0)
  yield from found
  for group in groups.values():
    yield from (group[i % len(group)] for i in range(len(group), most))
