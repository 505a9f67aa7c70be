"""The figures of `compile_figures` as lines for people. Nothing is computed."""

from collections.abc import Iterator


def text(found, explain: bool = False) -> str:
  """All of a result; with `explain` the largest buffers of each program."""
  return '\n'.join([*_head(found), *_table(found), *_network(found),
                    *_notes(found, explain), verdict(found)])


def verdict(found) -> str:
  """Whether it fits, and if not, which program and which buffer is at fault."""
  if found['fits']:
    return 'fits'
  name, worst = max(
      ((name, one) for name, one in found['programs'].items()
       if not one['fits']), key=lambda pair: needed(pair[1]))
  largest = 'unknown'
  if worst['largest']:
    largest = _buffer(worst['largest'][0])
  return (f'does not fit {found["topology"]}: {name} needs '
          f'{_size(needed(worst))} bytes a chip of '
          f'{_size(found["chip_bytes"])}, {_size(worst["held_beside"])} of '
          f'them held beside it; its largest '
          f'buffer is {largest}. Set config.mesh, model.remat, '
          f'rl.microbatches, rollout.prompts or data.buckets, or --search')


def needed(program) -> int:
  """Bytes of a chip while a program runs."""
  return program['bytes_per_chip'] + program['held_beside']


def _head(found) -> Iterator[str]:
  b = found['batch']
  mesh = ', '.join(f'{axis} {size}' for axis, size in found['mesh'].items())
  slices = f'{found["slices"]} x ' if found['slices'] > 1 else ''
  yield (f'{found["model"]} on {slices}{found["topology"]}: {found["chips"]} '
         f'chips of {_size(found["chip_bytes"])} bytes, mesh {mesh}')
  yield (f'{b["prompts"]} prompts of {b["bucket"][0]} tokens and '
         f'{b["bucket"][1]} patches, {b["group"]} completions of {b["length"]} '
         f'each; {b["slots"]} slots, {b["rows"]} prompts resident, '
         f'{b["chunk"]} encoded at a time')


def _table(found) -> Iterator[str]:
  yield ''
  yield (f'{"a chip":8} {"bytes":>8} = {"arguments":>9} + {"outputs":>8} + '
         f'{"temporary":>9} + {"code":>8}; {"beside":>8} {"of chip":>7} '
         f'{"FLOPs":>8} {"counted":>8} {"ratio":>5} {"estimate s":>10}')
  for name, one in found['programs'].items():
    share = needed(one) / found['chip_bytes']
    if 'held' not in one:
      yield (f'{name:8} {_size(one["bytes_per_chip"]):>8}: refused by the '
             f'compiler; {_size(one["held_beside"])} beside, {share:.0%} of '
             f'chip')
      continue
    parts = one['held']
    ratio = '-'
    if one['flops_counted']:
      ratio = f'{one["flops"] / one["flops_counted"]:.2f}'
    yield (f'{name:8} {_size(one["bytes_per_chip"]):>8} = '
           f'{_size(parts["arguments"]):>9} + {_size(parts["outputs"]):>8} + '
           f'{_size(parts["temporaries"]):>9} + {_size(parts["code"]):>8}; '
           f'{_size(one["held_beside"]):>8} {share:>7.0%} '
           f'{_size(one["flops"]):>8} {_size(one["flops_counted"]):>8} '
           f'{ratio:>5} {one["seconds_estimate"]:>10.2g}')


def _network(found) -> Iterator[str]:
  yield ''
  yield ('bytes that a chip sends, and the least that it must with this '
         'sharding:')
  for name, one in found['programs'].items():
    if 'held' not in one:
      continue
    sent, floor = one['collective_bytes'], one['collective_floor']
    kinds = ', '.join(f'{kind} {_size(size)}'
                      for kind, size in sent.items()) or 'none'
    least = ', '.join(f'{kind} {_size(size)}' for kind, size in floor.items()
                      if size) or 'none'
    times = ''
    if sum(floor.values()):
      times = f' ({sum(sent.values()) / sum(floor.values()):.2f} times)'
    across = ''
    if one['across_slices']:
      across = f' ({_size(one["across_slices"])} between slices)'
    yield f'{name:8} {kinds}{across}; least {least}{times}'


def _notes(found, explain: bool) -> Iterator[str]:
  yield ''
  if 'step_seconds_estimate' in found:
    estimate = found['step_seconds_estimate']
    yield (f'a step by the roofline, at peak rates and without the host: '
           f'{estimate:.3g} s; ' + _measured(found['measured'], estimate))
  for name, one in found['programs'].items():
    if 'held' in one:
      for twice in one['replicated']:
        yield (f'{name}: {twice["copies"]:g} chips hold the same '
               f'{_buffer(twice)}')
      for loop, turns in one['unknown_loops'].items():
        yield f'{name}: {loop} was taken to turn {turns:.3g} times'
    if explain:
      yield f'{name}, largest:'
      for buffer in one['largest']:
        yield f'  {_buffer(buffer)}'


def _measured(run, estimate: float) -> str:
  if run is None:
    return 'not measured'
  error = estimate / run['step_s'] - 1
  return (f'measured {run["step_s"]:.2f} s on {run["device"]} '
          f'({run["date"]}): {error:+.0%}')


def _buffer(one) -> str:
  return (f'{_size(one["bytes"])} {one["shape"]} {one["op"]} '
          f'{one["name"]}').rstrip()


def _size(number: float) -> str:
  """With a decimal prefix, three digits."""
  for prefix in ('', 'k', 'M', 'G', 'T'):
    if abs(number) < 999.5:
      break
    number /= 1000
  else:
    prefix = 'P'
  return f'{number:.3g} {prefix}'.rstrip()
