"""Checkpoints of a run: device state and host data state, kept by Orbax.

A step is a folder `<folder>/<step>` with the items `state` (any pytree of
arrays, typed PRNG keys included), `data` (JSON) and, if given, `metrics`. It
appears by one rename, so its items belong together or are not there.

Not here: what the state is (trainers), where arrays lie (the caller's abstract
state says it), weights of published models (models/hf). Readers at the bottom
(`restore_params`, `open_array`) need neither model code nor the devices that
wrote.
"""

from collections.abc import Iterator, Mapping
import contextlib
import errno
import hashlib
import json
import logging
import math
import os
from typing import Any

from etils import epath
import jax
from jax.experimental import multihost_utils
import numpy as np
from orbax import checkpoint as ocp
from orbax.checkpoint import checkpoint_managers
import tensorstore as ts

from medrl import lookup
from medrl import paths


def open_manager(folder: str | os.PathLike, *, keep_last: int, keep_best: int,
                 best_metric: str, asynchronous: bool = True
                 ) -> ocp.CheckpointManager:
  """Opens (and creates) a folder of checkpoints for writing and restoring.

  The newest `keep_last` steps stay, and the `keep_best` whose `best_metric` is
  highest; a step saved without it, or with nan, ranks last. With `keep_last=1`
  there is nothing to fall back on if the newest is damaged. Files of a save
  that was killed are removed.

  Raises:
    ValueError: `keep_last` is below 1.
  """
  if keep_last < 1:
    raise ValueError(f'keep_last is {keep_last}; expected at least 1, or a run '
                     f'cannot be resumed.')
  _quiet_orbax()
  _remove_damaged_metrics(folder)

  def rank(metrics: Mapping[str, float]) -> float:
    return _rank(metrics, best_metric)

  policies = [checkpoint_managers.LatestN(keep_last),
              checkpoint_managers.BestN(
                  get_metric_fn=rank, n=keep_best,
                  keep_checkpoints_without_metrics=False)]
  options = ocp.CheckpointManagerOptions(
      # max_to_keep with best_fn would delete the newest steps. best_fn is here
      # only because metrics are not written to disk without it.
      preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
      best_fn=rank,
      cleanup_tmp_directories=True,
      enable_async_checkpointing=asynchronous)
  return ocp.CheckpointManager(
      _path(folder), options=options, item_names=('state', 'data'))


def save(manager: ocp.CheckpointManager, step: int, state: Any, data: Any,
         metrics: Mapping[str, float] | None = None) -> None:
  """Saves `state` and `data` (JSON-able) as `step`.

  Returns once arrays and data are copied, so that the arrays may be donated;
  an asynchronous write that failed raises at the next save or `wait`.

  Raises:
    ValueError: the step is there already, or `data` holds nan or infinity.
    TypeError: `data` holds what JSON cannot.
    OSError: this save or the one before failed, as on a full disk.
  """
  if step in manager.all_steps():
    raise ValueError(f'{manager.directory} already has step {step}; it has '
                     f'{sorted(manager.all_steps())}. Restore before saving.')
  # Orbax turns it into text later, in a thread, when the pipeline may have
  # moved on; a copy made now belongs to the same step as the arrays.
  data = json.loads(json.dumps(data, allow_nan=False))
  with _failed_saves_told(manager):
    manager.save(
        step,
        args=ocp.args.Composite(state=ocp.args.StandardSave(state),
                                data=ocp.args.JsonSave(data)),
        metrics={name: float(v) for name, v in (metrics or {}).items()},
        # Without force Orbax skips a save while another is being written.
        force=True)


def wait(manager: ocp.CheckpointManager) -> None:
  """Blocks until the asynchronous save is on disk; raises if it failed."""
  with _failed_saves_told(manager):
    manager.wait_until_finished()


@contextlib.contextmanager
def closing(manager: ocp.CheckpointManager) -> Iterator[None]:
  """Closes it at the end, when the last save is on disk; raises if it is not.
  """
  try:
    yield
  finally:
    with _failed_saves_told(manager):
      manager.close()


@contextlib.contextmanager
def _failed_saves_told(manager: ocp.CheckpointManager) -> Iterator[None]:
  """Raises what a save fails with, of any type, as OSError, with what is left.
  """
  try:
    yield
  except Exception as error:
    # TensorStore's messages run to pages, and a full disk is deep in them.
    full = next((r for r in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
                 if os.strerror(r) in str(error)), errno.EIO)
    why = (os.strerror(full) if full != errno.EIO
           else f'{type(error).__name__}: {str(error)[:500]}')
    raise OSError(
        full, f'a save in {manager.directory} failed ({why}). Whole are the '
        f'steps {steps(manager.directory)}; once the cause is gone the same '
        f'command goes on from the last of them') from error


def restore(manager: ocp.CheckpointManager, abstract_state: Any,
            step: int | None = None) -> tuple[int, Any, Any] | None:
  """Returns (step, state, data) of one step, or None if there is no step.

  `abstract_state` is the state's tree of `jax.ShapeDtypeStruct`s, each with its
  sharding, on whatever mesh is wanted now (typed keys with their key dtype, as
  `jax.eval_shape` gives them). Without `step` the newest is taken; one that
  does not restore is reported, and the one before is tried. Once an older one
  restored, damaged ones are renamed to `<step>.damaged`: left in place they
  would block the same step from being saved again and would count as newest
  when old steps are deleted. All processes take the same step.

  Raises:
    ValueError: the named step, or each step there is, does not restore.
  """
  manager.wait_until_finished()
  found = sorted(manager.all_steps(), reverse=True)
  if step is not None:
    if step not in found:
      raise ValueError(f'{manager.directory} has no step {step}; it has '
                       f'{sorted(found)}.')
    found = [step]
  failed = {}
  for candidate in found:
    state, data, why = _try_restore(manager, abstract_state, candidate)
    if why:
      failed[candidate] = why
      logging.warning('Checkpoint step %d in %s does not restore: %s',
                      candidate, manager.directory, why)
      continue
    if failed:
      logging.warning('Going on from checkpoint step %d.', candidate)
      _set_aside(manager, failed)
    return candidate, state, data
  if failed:
    reasons = '\n'.join(f'  step {s}: {why}' for s, why in failed.items())
    raise ValueError(
        f'No checkpoint in {manager.directory} restores. If the reasons are '
        f'the same, the config may not be the one that wrote them. It has '
        f'{sorted(manager.all_steps())}:\n{reasons}')
  return None


def _try_restore(manager: ocp.CheckpointManager, abstract_state: Any,
                 step: int) -> tuple[Any, Any, str]:
  """State, data and '', or on all processes the reason why not."""
  state = data = None
  why = ''
  try:
    state, data = _restore_step(manager, abstract_state, step)
  except Exception as error:  # damage shows as any of a dozen types
    # TensorStore's messages run to pages.
    why = f'{type(error).__name__}: {str(error)[:500]}'
  # Each process reads its own shards, so only some may meet the damage; those
  # that did not would train on from another step.
  if not np.all(multihost_utils.process_allgather(np.array(not why))):
    why = why or 'another process could not read its part'
  return state, data, why


def _restore_step(manager: ocp.CheckpointManager, abstract_state: Any,
                  step: int) -> tuple[Any, Any]:
  # Not manager.restore: it ends in a barrier, where processes that read well
  # would wait for one that raised.
  folder = manager.directory / str(step)
  state = ocp.StandardCheckpointHandler().restore(
      folder / 'state', args=ocp.args.StandardRestore(abstract_state))
  data = json.loads((folder / 'data' / 'metadata').read_text())
  # Where its array metadata is lost, Orbax gives a typed key back as integers.
  for (path, want), got in zip(
      jax.tree_util.tree_leaves_with_path(abstract_state),
      jax.tree.leaves(state), strict=True):
    if (got.shape, got.dtype) != (want.shape, want.dtype):
      raise ValueError(f'{jax.tree_util.keystr(path)} is {got.dtype} '
                       f'{got.shape}; expected {want.dtype} {want.shape}')
  return state, data


def _set_aside(manager: ocp.CheckpointManager, failed: Mapping[int, str]
               ) -> None:
  if jax.process_index() == 0:
    for step in failed:
      source = manager.directory / str(step)
      target = manager.directory / f'{step}.damaged'
      if target.exists():  # the same step was damaged in an earlier restart
        target.rmtree()
      source.rename(target)
  multihost_utils.sync_global_devices('medrl_set_aside')
  manager.reload()


def steps(folder: str | os.PathLike) -> list[int]:
  """Steps whose writing was finished, oldest first; damaged ones included."""
  folder = _path(folder)
  if not folder.exists():
    return []
  found = ocp.path.step.standard_name_format().find_all(folder)
  return sorted(metadata.step for metadata in found)


def best_step(folder: str | os.PathLike, metric: str) -> int | None:
  """The step whose saved `metric` is highest, None if no step has it."""
  ranks = {step: _rank(_metrics(folder, step) or {}, metric)
           for step in steps(folder)}
  best = max(ranks, key=ranks.get, default=None)
  return None if best is None or ranks[best] == -math.inf else best


def _metrics_path(folder: str | os.PathLike, step: int) -> epath.Path:
  return _path(folder) / str(step) / 'metrics' / 'metrics'


def _metrics(folder: str | os.PathLike, step: int) -> dict[str, float] | None:
  """The metrics saved with a step, {} if there are none, None if damaged."""
  path = _metrics_path(folder, step)
  try:
    return json.loads(path.read_text()) if path.exists() else {}
  except ValueError:
    return None


def _remove_damaged_metrics(folder: str | os.PathLike) -> None:
  # Orbax reads them all when it opens a folder and fails on the first that is
  # damaged, though nothing but the ranking depends on them.
  if jax.process_index() == 0:
    for step in steps(folder):
      if _metrics(folder, step) is None:
        logging.warning('Removing damaged %s.', _metrics_path(folder, step))
        _metrics_path(folder, step).unlink()
  multihost_utils.sync_global_devices('medrl_remove_damaged_metrics')


def _rank(metrics: Mapping[str, float], metric: str) -> float:
  rank = float(metrics.get(metric, math.nan))
  return -math.inf if math.isnan(rank) else rank  # nan has no place in an order


def restore_params(folder: str | os.PathLike, step: int | None = None, *,
                   subtree: str = 'trained') -> dict[str, Any]:
  """Reads one subtree of the state as nested dicts of NumPy arrays.

  Only that subtree is read (never the optimiser's moments), on any machine,
  whatever mesh wrote it. `step` is the newest by default.

  Raises:
    ValueError: no such step or subtree; the message lists what there is.
  """
  return _read(_state(folder, step), (subtree,))


def restore_policy(folder: str | os.PathLike, step: int | None = None
                   ) -> dict[str, Any]:
  """All parameters of a step, trained and frozen, like `restore_params`.

  The frozen ones are those that `save_frozen` stored under the digest that the
  step's data state holds as 'frozen'; '' stands for none.

  Raises:
    ValueError: no such step.
  """
  state = _state(folder, step)
  tree = _read(state, ('trained',))
  data = json.loads((state.parent / 'data' / 'metadata').read_text())
  if data['frozen']:
    _merge(tree, _read(_frozen(folder) / data['frozen'], ()))
  return tree


def _merge(into: dict[str, Any], tree: dict[str, Any]) -> None:
  for name, value in tree.items():
    if isinstance(value, dict):
      _merge(into.setdefault(name, {}), value)
    else:
      into[name] = value


def _read(stored: epath.Path, prefix: tuple[str, ...]) -> dict[str, Any]:
  """Arrays below a path of one stored tree, as nested dicts without it."""
  names, driver = _leaves(stored)
  # Asked for all at once, since each read waits for the disk.
  reading = {path: _open(stored, name, driver) for path, name in names.items()
             if path[:len(prefix)] == prefix}
  if not reading:
    tops = sorted({path[0] for path in names})
    raise ValueError(f'{stored} has no {"/".join(prefix)!r}: '
                     f'{lookup.nearest("/".join(prefix), tops)}')
  reading = {path: array.read() for path, array in reading.items()}
  tree = {}
  for path, future in reading.items():
    node = tree
    for part in path[len(prefix):-1]:
      node = node.setdefault(part, {})
    node[path[-1]] = future.result()
  return tree


def open_array(folder: str | os.PathLike, step: int | None, path: str
               ) -> ts.TensorStore:
  """Opens one array of the state without reading it.

  `path` is its place in the tree, such as 'trained/decoder/attention/q';
  `open_array(...)[3].read().result()` reads one layer of it.

  Raises:
    ValueError: no such step or array; the message lists the nearest names.
  """
  state = _state(folder, step)
  names, driver = _leaves(state)
  known = {'/'.join(parts): name for parts, name in names.items()}
  if path not in known:
    raise ValueError(f'{state} has no {path!r}: '
                     f'{lookup.nearest(path, sorted(known))}')
  return _open(state, known[path], driver)


def _state(folder: str | os.PathLike, step: int | None) -> epath.Path:
  there = steps(folder)
  if step is None and there:
    step = there[-1]
  if step not in there:
    raise ValueError(f'{folder} has no step {step}; it has {there}.')
  return _path(folder) / str(step) / 'state'


def _leaves(state: epath.Path) -> tuple[dict[tuple[str, ...], str], str]:
  """Tree paths of the stored arrays -> stored names, and the array format."""
  metadata = json.loads((state / '_METADATA').read_text())
  names = {}
  for leaf in metadata['tree_metadata'].values():
    path = tuple(str(part['key']) for part in leaf['key_metadata'])
    if not leaf['value_metadata']['skip_deserialize']:  # None is not stored
      names[path] = '.'.join(path)
  return names, 'zarr3' if metadata['use_zarr3'] else 'zarr'


def _open(state: epath.Path, name: str, driver: str) -> ts.TensorStore:
  base = str(state) if '://' in str(state) else f'file://{state}'
  return ts.open({'driver': driver, 'kvstore': {
      'driver': 'ocdbt', 'base': f'{base}/', 'path': f'{name}/'}},
                 open=True, read=True).result()


def save_frozen(folder: str | os.PathLike, frozen: Any) -> str:
  """Stores weights that never change once, and returns their digest.

  They lie in `<folder>/frozen/<digest>`, in an object store beside the folder;
  a later call with the same values writes nothing. Put the digest into the data
  state of each step.

  Raises:
    ValueError: there is nothing to store.
  """
  if not jax.tree.leaves(frozen):
    raise ValueError(f'frozen is {frozen!r}, without a single array; expected '
                     f'weights. If all are trained, do not call this.')
  _quiet_orbax()
  digest = _digest(frozen)
  target = _frozen(folder) / digest
  # In a store the rest of a save that was killed has the same name.
  if not target.exists() or not ocp.utils.is_checkpoint_finalized(target):
    with ocp.StandardCheckpointer() as checkpointer:
      checkpointer.save(target, frozen, force=True)
  return digest


def restore_frozen(folder: str | os.PathLike, abstract: Any, digest: str
                   ) -> Any:
  """Restores what `save_frozen` stored, with the shardings of `abstract`.

  Raises:
    ValueError: nothing is stored by that digest, or its values have another.
  """
  _quiet_orbax()
  parent = _frozen(folder)
  there = sorted(p.name for p in parent.iterdir()) if parent.exists() else []
  if digest not in there:
    raise ValueError(f'{parent} has no {digest!r}; it has {there}.')
  with ocp.StandardCheckpointer() as checkpointer:
    frozen = checkpointer.restore(parent / digest, abstract)
  found = _digest(frozen)
  if found != digest:
    raise ValueError(f'{parent / digest} holds values with digest {found}: the '
                     f'files are damaged or the dtypes asked for are others. '
                     f'Remove that folder and store the weights again.')
  return frozen


def _frozen(folder: str | os.PathLike) -> epath.Path:
  # In a store Orbax takes whatever has no mark of success for a save that was
  # killed, and removes it when it opens the folder.
  folder = _path(folder)
  return (folder.parent if paths.remote(folder) else folder) / 'frozen'


def _digest(tree: Any) -> str:
  """BLAKE2b over each leaf's path, shape, dtype and bytes, 32 hex digits."""
  state = hashlib.blake2b(digest_size=16)
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    head = f'{jax.tree_util.keystr(path)} {leaf.shape} {leaf.dtype}'
    state.update(head.encode())
    # One leaf at a time: the whole tree may not fit into the host's memory.
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
      leaf = multihost_utils.process_allgather(leaf, tiled=True)
    state.update(np.ascontiguousarray(leaf).view(np.uint8).data)
  return state.hexdigest()


def _path(folder: str | os.PathLike) -> epath.Path:
  # Orbax refuses a relative path, and epath takes a store's for one.
  path = epath.Path(folder)
  return path if paths.remote(path) else path.resolve()


def _is_news(record: logging.LogRecord) -> bool:
  return record.levelno >= logging.WARNING or 'orbax' not in record.pathname


def _quiet_orbax() -> None:
  # Orbax logs about forty lines at each save on absl's logger, which the
  # program shares; its warnings stay. Adding the same filter twice is harmless.
  logging.getLogger('absl').addFilter(_is_news)
