"""Measured seconds and counted work -> the figures that a benchmark prints.

Nothing is run here.
"""

from launch import bench_counts
from launch import bench_estimate


def mean(pair) -> float:
  """A fetched `metrics.Mean` as a number."""
  return float(pair.total) / float(pair.weight)


def parts(run, shapes: bench_counts.Shapes, seconds, ceilings):
  """Each part with its rate: tokens a second that it got through, FLOP/s
  against the largest product, and of decoding bytes against a large copy."""
  work = bench_counts.parts(run.family, run.model, shapes)
  tokens = {'encode': shapes.patches, 'prefill': shapes.prompt_tokens,
            'decode': shapes.completion_tokens}
  whole = shapes.prompt_tokens + shapes.completion_tokens
  out = {}
  for name, spent in seconds.items():
    best = spent['best_s']
    rate = work[name] / best
    out[name] = spent | {
        'flops': work[name], 'flops_utilisation':
            rate / ceilings['matrix_flops'],
        'tokens_per_s': tokens.get(name, whole) / best}
  moved = bench_counts.decode_bytes(run.specs, run.model, shapes,
                                    run.dtype.itemsize)
  out['decode']['bytes'] = moved
  out['decode']['bandwidth_utilisation'] = (
      moved / out['decode']['best_s'] / ceilings['copy_bytes'])
  return out


def floor(run, shapes: bench_counts.Shapes, whole, ceilings):
  """The least seconds of each pass at the head's own rate, and how many times
  that the whole step took."""
  out = bench_counts.floor(run.specs, run.model, shapes,
                           ceilings['head_flops'])
  times = whole['best']['whole'] / out['whole']['seconds']
  return out | {'products': bench_counts.products(run.specs, run.model, shapes),
                'step_over_floor': times}


def padding(rollout, source) -> dict[str, float]:
  """Shares of places that hold nothing: by kind, and of tokens together.

  Args:
    rollout: of a step.
    source: its packed rows, or None.
  """
  mask, written = rollout.prompt.mask, rollout.token_mask
  places = written.size if source is None else source.size
  empty = {'prompt': 1 - mask.mean(), 'completion': 1 - written.sum() / places}
  for patches in rollout.prompt.media.values():
    empty['patches'] = (patches.window == 0).mean()
  there = mask.sum() + written.sum()
  empty['tokens'] = 1 - there / (mask.size + places)
  return {name: float(share) for name, share in empty.items()}


def memory(program) -> dict[str, int]:
  """Bytes a device that a compiled program needs, donated ones counted once."""
  found = program.memory_analysis()
  return {'arguments': found.argument_size_in_bytes,
          'outputs': found.output_size_in_bytes - found.alias_size_in_bytes,
          'temporaries': found.temp_size_in_bytes}


def text(result) -> str:
  """A result for people."""
  if 'memory_plan' in result:
    return _plan(result)
  lines = [
      f'{result["preset"]}: {result["parameters"]:,} parameters, '
      f'{result["dtype"]}, {result["device"]}, load {result["load"]:.1f}; '
      + ', '.join(f'{k} {v:g}' for k, v in result['shapes'].items()),
      f'ceilings: {result["ceilings"]["matrix_flops"] / 1e9:,.0f} GFLOP/s, '
      f'{result["ceilings"]["head_flops"] / 1e9:,.0f} at the head, copy '
      f'{result["ceilings"]["copy_bytes"] / 1e9:,.1f} GB/s']
  for name, part in result['parts'].items():
    line = (f'  {name:<8}{part["best_s"]:10.4f} s best'
            f'{part["median_s"]:10.4f} s median'
            f'{part["flops"] / 1e9:12,.1f} GFLOP'
            f'{part["flops_utilisation"]:8.1%} of the matrix rate'
            f'{part["tokens_per_s"]:12,.0f} tokens/s')
    if 'bandwidth_utilisation' in part:
      line += f'{part["bandwidth_utilisation"]:8.1%} of the copy rate'
    lines.append(line)
  lines += _floor(result['floor'])
  lines += _whole(result)
  lines += bench_estimate.text(result)
  padded = ', '.join(f'{k} {v:.1%}' for k, v in result['padding'].items())
  lines += [
      f'padding: {padded}',
      f'compiles: {result["compiles"]["count"]} in '
      f'{result["compiles"]["seconds"]:.1f} s, '
      f'{result["compiles"]["in_steps"]} within steps; peak memory '
      f'{result["peak_bytes"] / 2 ** 30:.2f} GiB']
  if 'against' in result:
    other = result['against']
    lines += [f'against {other["preset"]}:', *_whole(other),
              f'  {other["speed_up"]:.2f} times its samples/s; '
              f'{other["same_completions"]} of {len(other["written"])} '
              f'completions identical, token by token']
  return '\n'.join(lines)


def _floor(found) -> list[str]:
  passes = ', '.join(f'{name} {part["seconds"]:.3f}'
                     for name, part in found.items()
                     if isinstance(part, dict) and 'seconds' in part)
  one = ', '.join(f'{name} {flops / 1e9:,.1f}'
                  for name, flops in found['products'].items())
  return [f'floor at the head\'s rate, in seconds: {passes}',
          f'  one forward pass in GFLOP: {one}']


def _whole(result) -> list[str]:
  loop = ', '.join(f'{name} {spent:.3f}'
                   for name, spent in result['loop_s'].items())
  over = ''
  if 'floor' in result:
    over = f', {result["floor"]["step_over_floor"]:.2f} times the floor'
  return [
      f'whole step: {result["whole_step_s"]:.3f} s best, '
      f'{result["whole_step_median_s"]:.3f} s median{over}; {loop}',
      f'  {result["samples_per_s"]:.2f} samples/s, '
      f'{result["tokens_per_s"]:,.0f} tokens/s; {result["sampled_tokens"]} '
      f'tokens sampled, slots in use {result["slot_utilisation"]:.1%}, loss '
      f'{result["loss"]:+.3e}, log-prob gap {result["logp_gap"]:.2e}']


def _plan(result) -> str:
  def gib(sizes):
    return ', '.join(f'{what} {size / 2 ** 30:.2f}'
                     for what, size in sizes.items())
  total = sum(result['memory_plan'].values()) / 2 ** 30
  return '\n'.join([
      f'{result["preset"]}: {result["parameters"]:,} parameters; GiB a device:',
      f'  held all the time {total:.2f}: {gib(result["memory_plan"])}',
      *(f'  {name}: {gib(sizes)}'
        for name, sizes in result['programs'].items())])
