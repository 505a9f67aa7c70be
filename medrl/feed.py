"""Config -> the records a run draws from: one data set, or a mixture.

It reads the names in `config.data` and nothing of the model; encoding and
batching are named in `build`.
"""

from medrl import lookup
from medrl import types
from medrl.data import mixture
from medrl.data import named
from medrl.data import overlap
from medrl.data import sampling


def sources(config, split: str, overrides) -> tuple[mixture.Source, ...]:
  """What `config.data` names, of one split.

  Args:
    config: the run's.
    split: 'train', 'validation' or 'test'.
    overrides: laid over `data.options`; of a mixture, name -> what is laid over
      the options of that data set.

  Raises:
    ValueError: a data set has no record, or no such option; or overrides name
      no part of the mixture.
  """
  data = config.data
  if not data.mixture:
    found = named.records(data.dataset, data.root, split,
                          {**data.options, **overrides})
    return (_source(found, data.root, 1., data.dataset, data.balance),)
  for name in overrides:
    if name not in data.mixture:
      raise ValueError(f'options for {name!r}, which is no part of '
                       f'data.mixture; {lookup.nearest(name, [*data.mixture])}')
  out = []
  for name, part in data.mixture.items():
    for key in {'dataset', 'weight'} - set(part):
      raise ValueError(f'data.mixture.{name} has no {key!r}; it has '
                       f'{sorted(part)}')
    for key in set(part) - {'dataset', 'weight', 'root', 'options'}:
      raise ValueError(f'data.mixture.{name} has {key!r}; expected dataset, '
                       f'weight and, where they differ, root and options')
    root = part.root if 'root' in part else data.root
    options = dict(part.options) if 'options' in part else {}
    found = named.records(part.dataset, root, split,
                          {**options, **overrides.get(name, {})})
    out.append(_source(found, root, part.weight, name, data.balance))
  return tuple(out)


def training(config) -> tuple[mixture.Source, ...]:
  """What to train on, with the demonstrations that sft.demonstrate gives."""
  found = sources(config, config.data.split, {})
  if not config.sft.demonstrate:
    return found
  demonstrate = lookup.resolve(config.sft.demonstrate)
  return tuple(
      _source(demonstrate(source.records, config.seed), source.root,
              source.weight, source.name, config.data.balance)
      for source in found)


def evaluation(config) -> tuple[mixture.Source, ...]:
  """What to evaluate on, none of it trained on; each record once."""
  return once(sources(config, config.eval.split, config.eval.options))


def once(found: tuple[mixture.Source, ...]) -> tuple[mixture.Source, ...]:
  """The same sources with every record once an epoch, none balanced."""
  return tuple(mixture.Source(s.records, s.root, s.weight, s.name)
               for s in found)


def check_overlap(config, trained: tuple[mixture.Source, ...],
                  held_out: tuple[mixture.Source, ...]) -> None:
  """Looks for records to evaluate on among those to train on.

  Raises:
    ValueError: there are some, and `data.overlap.action` is 'refuse'.
  """
  how = config.data.overlap
  if how.action == 'off':
    return
  for one in trained:
    for other in held_out:
      overlap.refuse(overlap.find(one.records, other.records, one.root,
                                  other.root, checks=how.checks), how.action)


def of(config, found: list[types.Record]) -> tuple[mixture.Source, ...]:
  """Some records of the config's data root as a source."""
  return (mixture.Source(found, config.data.root),)


def flat(found: tuple[mixture.Source, ...]) -> list[types.Record]:
  """All records, one source behind the other."""
  return [record for source in found for record in source.records]


def records(config, split: str, **overrides) -> list[types.Record]:
  """All records of a split; see `sources`."""
  return flat(sources(config, split, overrides))


def _source(found, root, weight, name, balance) -> mixture.Source:
  epoch = tuple(sampling.balanced(found, balance, 0)) if balance else ()
  return mixture.Source(found, root, weight, name, epoch)
