"""Switches after a config's name: `experiments/x.py:runlocal,steps=20`."""


def parse_arg(arg: str, **defaults):
  """Reads `name` and `name=value` switches, separated by commas.

  Args:
    arg: the text behind the colon, may be empty.
    **defaults: every switch there is, with its default; its type is kept.

  Returns:
    dict of all switches.

  Raises:
    ValueError: an unknown switch, with those there are.
  """
  out = dict(defaults)
  for part in filter(None, (arg or '').split(',')):
    name, _, value = part.partition('=')
    if name not in defaults:
      raise ValueError(f'switch {name!r} is unknown; there are '
                       f'{sorted(defaults)}')
    kind = type(defaults[name])
    out[name] = value != 'False' if kind is bool else kind(value)
  return out
