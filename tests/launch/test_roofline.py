"""Seconds from counted work: longhand on chips whose rates are round."""

import math

import pytest

from launch import hlo
from launch import roofline
from medrl import accelerators

# A FLOP/s of 1e12, memory at 1e11, links at 1e10, other slices at 1e9.
CHIP = accelerators.Chip('round', 10**9, 1e12, 1e11, 1e10, 1e9)


def kernel(flops=0, moved=0, **more):
  return hlo.Kernel('k', flops, moved, **more)


def facts(*kernels):
  return hlo.Facts(sum(k.times * k.flops for k in kernels),
                   sum(k.times * k.bytes for k in kernels), {}, 0., [], [], {},
                   {}, list(kernels))


def test_each_kernel_takes_its_longer_side():
  found = roofline.seconds(facts(
      kernel(flops=1e12, moved=1e10),             # 1 s, or 0.1 s of memory
      kernel(flops=1e11, moved=2e11, times=3)),   # 0.1 s, or 2 s
      CHIP)
  assert found['compute'] == pytest.approx(1 + 3 * .1)
  assert found['memory'] == pytest.approx(.1 + 3 * 2)
  assert found['total'] == pytest.approx(1 + 3 * 2)
  assert found['network'] == 0


@pytest.mark.parametrize('hidden,flops,total', [
    (False, 1e12, 1 + 2 + 3),   # waited for: 2 s of links, 3 s between slices
    (True, 1e12, 5),            # beside 1 s of work, which ends first
    (True, 8e12, 8),            # behind all of it
])
def test_network_is_added_where_nothing_hides_it(hidden, flops, total):
  one = kernel(kind='all-gather', sent=2e10, across=3e9, hidden=hidden)
  found = roofline.seconds(facts(kernel(flops=flops), one), CHIP)
  assert found['network'] == pytest.approx(5)
  assert found['total'] == pytest.approx(total)


def test_float32_is_six_products_of_bfloat16():
  one = facts(kernel(flops=1e12))
  assert roofline.seconds(one, CHIP, 'float32')['total'] == pytest.approx(
      6 * roofline.seconds(one, CHIP, 'bfloat16')['total'])


def test_step_counts_calls():
  programs = {'decode': facts(kernel(flops=1e11)),
              'update': facts(kernel(flops=4e12))}
  assert roofline.step(programs, {'decode': 64, 'update': 1}, CHIP
                       ) == pytest.approx(64 * .1 + 4)
  with pytest.raises(ValueError, match="decode.*'score'"):
    roofline.step(programs, {'score': 1}, CHIP)


def test_curves_between_their_ends_and_beyond():
  curve = {10: 1e9, 1000: 4e9}
  # Half-way in the logarithm of the size is half-way in that of the rate.
  assert roofline.at(curve, 100) == pytest.approx(2e9)
  assert [roofline.at(curve, size) for size in (1, 10, 1000, 10**6)] == [
      1e9, 1e9, 4e9, 4e9]


def test_measured_rates_take_the_place_of_published_ones():
  curves = roofline.Curves(products={128: 1e11}, moves={100: 1e10, 10**4: 1e8})
  one = kernel(products=((128, 1e11),), moves=((100, 10**10), (10**4, 10**8)))
  found = roofline.seconds(facts(one), CHIP, curves=curves)
  assert found['compute'] == pytest.approx(1)
  assert found['memory'] == pytest.approx(1 + 1)   # from cache, and not


def test_record_replaces_its_own_key(tmp_path):
  path = tmp_path / 'measured.json'
  assert roofline.measured(('a', 'cpu'), path) is None
  for step in (3., 2.):
    for key in (['b', 'cpu'], ['a', 'cpu']):
      roofline.record({'key': key, 'step_s': step, 'command': 'c',
                       'date': '2026-01-02', 'device': 'd'}, path)
  assert roofline.measured(('a', 'cpu'), path)['step_s'] == 2.
  assert roofline.measured(('a', 'v5e:8x8'), path) is None
  assert path.read_text().count('step_s') == 2


def test_what_is_recorded_was_measured_somewhere():
  found = roofline.measured(('cpu_yardstick', 'cpu'))
  assert set(found) == {'key', 'step_s', 'command', 'date', 'device'}
  assert 'cpu_yardstick' in found['command'] and found['device']
  assert 0 < found['step_s'] < math.inf
