import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from medrl.data import phantom
from medrl.data import phantom_solid as ps
from medrl.data import phantom_volume
from medrl.data import phantom_world

SHOWN = np.arange(1, ps.DEPTH, 3)   # the slices of a record


def masks(state):
  """What lesions add, slice by slice: bool [27, 112, 112], and organs."""
  world = dataclasses.replace(state.world, noise=0.)
  state = dataclasses.replace(state, world=world)
  empty = dataclasses.replace(state, masses=())
  with_, without = (np.stack([ps.grey(s, k) for k in range(ps.DEPTH)])
                    for s in (state, empty))
  return with_.astype(int) - without > world.contrast / 2


@pytest.mark.parametrize('index', range(0, 60, 6))
def test_lesions_in_voxels_are_those_of_the_state(index):
  state = ps.solid(3, index)
  labels, count = ndimage.label(masks(state))
  assert count == len(state.masses)
  _, (down, across) = state.thickness, [state.world.spacing] * 2
  for mass in state.masses:
    number = round((mass.centre - 1) * 3 + 1)   # of its largest section
    own = labels == labels[number, int(mass.lesion.y), int(mass.lesion.x)]
    found = np.flatnonzero(own.any((1, 2)))
    shown = [i + 1 for i, k in enumerate(SHOWN) if k in found]
    assert (shown[0], shown[-1]) == ps.span(mass)
    assert len(shown) == mass.height
    # The voxels' centres span the height but for one slice, at most two where
    # the tips are thinner than a pixel.
    extent = (found[-1] - found[0] + 1) * state.thickness
    assert abs(extent - ps.height(state, mass)) <= 2 * state.thickness
    millilitres = own.sum() * state.thickness * down * across / 1e3
    assert millilitres == pytest.approx(ps.millilitres(state, mass), rel=.15)
    centre = ndimage.center_of_mass(own)[0] / (ps.DEPTH - 1)
    assert ps.third(mass) == ps.THIRDS[int(centre * 3)]


def test_lesions_lie_in_their_organs():
  for index in range(40):
    state = ps.solid(0, index)
    for mass in state.masses:
      at = phantom_world.ORGANS.index(mass.lesion.organ)
      organ, reach = state.world.organs[at], state.reach[at]
      long = mass.lesion.long / state.world.spacing / 2
      for part in np.linspace(-1, 1, 21):
        # Height above the middle in mm; the section there, as if it were round.
        up = (ps.CENTRE - mass.centre) * state.gap + (
            part * ps.height(state, mass) / 2)
        room = np.sqrt(1 - (up / reach) ** 2)
        own = long * np.sqrt(1 - part ** 2)
        turn = np.linspace(0, 2 * np.pi, 40)
        off = np.hypot(
            (mass.lesion.x + own * np.cos(turn) - organ.x) / organ.a,
            (mass.lesion.y + own * np.sin(turn) - organ.y) / organ.b)
        assert off.max() <= room * 1.05


@pytest.mark.parametrize('index', range(12))
def test_the_central_slice_is_the_phantom(index):
  slice_, = phantom_volume.volume(f'phantom/5/{index}/volume', '', count=1)
  np.testing.assert_array_equal(slice_, phantom.render(
      f'phantom/5/{index}/0', ''))
  assert ps.solid(5, index).world == phantom_world.world(5, index)


def test_a_volume_has_what_its_slice_misses():
  hidden = 0
  for index in range(60):
    state = ps.solid(0, index)
    central = [m.lesion for m in state.masses if m.centre == ps.CENTRE]
    assert tuple(central) == state.world.lesions
    hidden += len(state.masses) > len(central)
    assert len({m.lesion.organ for m in state.masses}) == len(state.masses)
  assert hidden > 20


def test_windows_and_slices_are_those_asked_for():
  path = 'phantom/0/4/volume'
  values, spacing = phantom_volume.array(0, 4)
  assert values.shape == (27, 112, 112) and values.dtype == np.int16
  state = ps.solid(0, 4)
  assert spacing == (state.thickness, *[state.world.spacing] * 2)
  nine = phantom_volume.volume(path, '')
  for image, number in zip(nine, SHOWN, strict=True):
    np.testing.assert_array_equal(image[:, :, 1], (values[number] + 160) / 2)
  some = phantom_volume.volume(path, '', slices=(20, 2), level=40., width=200.)
  for image, number in zip(some, (20, 2), strict=True):
    wanted = np.clip((values[number] + 60.) / 200 * 255, 0, 255)
    np.testing.assert_allclose(image[:, :, 0], wanted, atol=.501)
  assert len(phantom_volume.volume(path, '', count=27)) == 27


@pytest.mark.parametrize('options, expected', [
    ({'count': 0}, 'count 0'), ({'count': 28}, 'count 28'),
    ({'slices': (3, 27)}, '0 to 26'), ({'width': 0.}, 'width 0'),
    ({'level': float('nan')}, 'level nan')])
def test_errors(options, expected):
  with pytest.raises(ValueError, match=expected):
    phantom_volume.volume('phantom/0/0/volume', '', **options)


def test_a_hasty_reader_begins_at_the_bottom():
  for index in range(80):
    state = ps.solid(0, index)
    wrong = ps.misread(state, 'volume/third')
    assert bool(wrong.masses) == bool(state.masses)
    for mass in wrong.masses:
      true, = (m for m in state.masses
               if (m.lesion.x, m.lesion.y) == (mass.lesion.x, mass.lesion.y))
      first, last = ps.span(true)
      seen = (10 - max(first, last - 1), 10 - first)
      assert ps.span(mass) == seen
      assert mass.lesion.long * state.world.spacing == pytest.approx(
          true.lesion.long)
