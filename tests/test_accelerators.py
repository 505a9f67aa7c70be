"""Chips by name, shapes of slices, and the platform that is asked for."""

import logging
import math

import pytest

from medrl import accelerators


@pytest.mark.parametrize('text, chip, shape', [
    ('v5e:8x8', 'v5e', (8, 8)), ('v6e:16x16', 'v6e', (16, 16)),
    ('v5p:4x4x4', 'v5p', (4, 4, 4)), ('v5e:1x1', 'v5e', (1, 1))])
def test_a_topology_is_a_chip_and_a_shape(text, chip, shape):
  assert accelerators.parse(text) == (chip, shape)
  assert accelerators.count(text, slices=3) == 3 * math.prod(shape)


@pytest.mark.parametrize('text', [
    '', 'v5e', 'v5e:', 'v5e:8', 'v5e:8x8x8', 'v5p:8x8', 'v5e:0x8', 'v5e:8x-8',
    'v5e:8x8 ', 'v5e:08x8', 'v4:2x2', 'h200:1x1', 'v5e:axb', 'v5e:8x8:2'])
def test_another_text_is_refused_with_what_is_known(text):
  with pytest.raises(ValueError, match='v5e:axb, v6e:axb, v5p:axbxc') as told:
    accelerators.parse(text)
  assert repr(text) in str(told.value)


def test_chips_are_within_an_order_of_each_other_and_units_are_one_kind():
  """A figure in the wrong unit is off by 8 or by a thousand."""
  for chip in accelerators.CHIPS.values():
    assert 10e9 < chip.hbm_bytes < 300e9
    assert 1e14 < chip.flops_bf16 < 1e16
    # Products of a few hundred FLOPs a byte, as all of these are made for.
    assert 150 < chip.flops_bf16 / chip.hbm_bytes_per_s < 600
    assert 3 < chip.hbm_bytes_per_s / chip.ici_bytes_per_s < 12
    assert 8 < chip.ici_bytes_per_s / chip.dcn_bytes_per_s < 100


@pytest.mark.parametrize('asked', ['', 'cpu'])
def test_the_start_says_what_it_runs_on(asked, caplog):
  with caplog.at_level(logging.INFO):
    accelerators.check(asked)
  assert f'running on {accelerators.found()}' in caplog.text


@pytest.mark.parametrize('asked', ['tpu', 'gpu', 'cuda12', 'cuda13'])
def test_another_platform_than_asked_for_is_refused(asked):
  with pytest.raises(ValueError, match=f"'{asked}'.*jax runs on cpu"):
    accelerators.check(asked)


def test_an_unknown_platform_is_refused():
  with pytest.raises(ValueError, match="'rocm' is none of cpu, tpu, gpu"):
    accelerators.check('rocm')
