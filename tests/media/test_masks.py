"""Against pycocotools, matplotlib, longhand NumPy and recorded real masks."""

import io
import json
import pathlib

from matplotlib import path as mpath
import numpy as np
from PIL import Image
from pycocotools import mask as coco
import pytest

from medrl.media import masks
from medrl.media import slices
from medrl.rewards import masks as rules

DATA = pathlib.Path(__file__).parents[3] / 'shared' / 'data'


def rows_of(folder, name):
  file = DATA / folder / name
  if not file.exists():
    pytest.skip(f'no {file}')
  return [json.loads(line) for line in file.read_text().splitlines()]


def encoded(array, kind='PNG', mode=None, **options):
  out = io.BytesIO()
  image = Image.fromarray(array)
  (image.convert(mode) if mode else image).save(out, kind, **options)
  return out.getvalue()


def random_mask(rng, sides=40, density=.5):
  shape = tuple(rng.integers(1, sides, 2))
  blocks = rng.random((shape[0] // 3 + 1, shape[1] // 3 + 1)) < density
  return np.kron(blocks, np.ones((3, 3), bool))[:shape[0], :shape[1]] ^ (
      rng.random(shape) < .05)


# Real masks.

def test_vessels_cover_what_is_recorded():
  rows = rows_of('fundus', 'labels.jsonl')
  for row in rows:
    mask = masks.load(row['vessel_mask'], str(DATA / 'fundus'))
    assert mask.shape == (row['height'], row['width'])
    assert set(np.unique(mask)) == {0, 1}
    assert masks.area(mask) / mask.size == pytest.approx(
        row['vessel_fraction'], abs=.5e-4)
  assert len(rows) == 34


def test_boxes_and_areas_of_organs_are_those_recorded():
  count = 0
  for row in rows_of('grounding_mix', 'annotations.jsonl'):
    for thing in row['objects']:
      path = f'masks/{row["id"]}_{thing["label"]}_000.png'
      if not (DATA / 'grounding_mix' / path).exists():
        continue
      mask = masks.load(path, str(DATA / 'grounding_mix'))
      assert mask.shape == (row['height'], row['width'])
      assert [list(masks.box(mask))] == thing['boxes']
      assert list(masks.boxes(mask).values()) == [tuple(thing['boxes'][0])]
      assert masks.area(mask) == thing['area']
      count += 1
  assert count == 18


# Files.

@pytest.mark.parametrize('array,mode', [
    (np.array([[0, 1], [2, 255]], np.uint8), None),
    (np.array([[0, 1], [300, 65535]], np.uint16), None),
    (np.array([[0, 255]], np.uint8), '1'),
    (np.array([[0, 7]], np.uint8), 'RGB')])
@pytest.mark.parametrize('kind', ('PNG', 'TIFF'))
def test_numbers_of_labels_are_kept(array, mode, kind):
  read = masks.decode(encoded(array, kind, mode), 'mask')
  np.testing.assert_array_equal(read, array > 0 if mode == '1' else array)
  assert read.dtype == array.dtype


def test_a_palette_gives_indices_and_not_colours():
  image = Image.fromarray(np.array([[0, 3], [1, 2]], np.uint8), 'P')
  image.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200, 9, 9, 9])
  for kind in ('PNG', 'GIF'):
    out = io.BytesIO()
    image.save(out, kind)
    read = masks.decode(out.getvalue(), 'mask')
    assert sorted(read.ravel()) == [0, 1, 2, 3]


def test_a_jpeg_is_read_as_a_mask():
  mask = np.kron(np.eye(3), np.ones((16, 16)))
  read = masks.decode(encoded((mask * 255).astype(np.uint8), 'JPEG'), 'mask')
  np.testing.assert_array_equal(read, mask)


@pytest.mark.parametrize('data', [
    b'', b'no image', encoded(np.zeros((9, 9), np.uint8))[:48],
    encoded(np.arange(27, dtype=np.uint8).reshape(3, 3, 3)),
    encoded(np.zeros((3, 3, 4), np.uint8)),
    encoded(np.zeros((3, 3), np.float32), 'TIFF')])
def test_what_is_no_mask_is_one_clear_error(data):
  with pytest.raises(ValueError, match="'m.png' cannot be read as a mask"):
    masks.decode(data, 'm.png')


def test_a_mask_outside_of_the_root_is_not_read(tmp_path):
  (tmp_path / 'm.png').write_bytes(encoded(np.zeros((2, 2), np.uint8)))
  (tmp_path / 'in').mkdir()
  with pytest.raises(ValueError, match='outside'):
    masks.load('../m.png', str(tmp_path / 'in'))
  assert masks.load('m.png', str(tmp_path)).shape == (2, 2)


def test_a_bomb_is_refused(monkeypatch):
  monkeypatch.setattr(masks, 'MAX_PIXELS', 10)
  with pytest.raises(ValueError, match='more than 10 pixels'):
    masks.decode(encoded(np.zeros((4, 4), np.uint8)), 'm.png')
  with pytest.raises(ValueError, match='more than'):
    masks.from_rle({'size': [4, 4], 'counts': [16]})
  with pytest.raises(ValueError, match='more than'):
    masks.from_polygons([], (4, 4))


@pytest.mark.parametrize('plane,axes', [
    ('axial', (0, 1)), ('coronal', (0, 2)), ('sagittal', (1, 2))])
def test_a_section_of_labels_lies_on_the_image_of_the_slice(
    tmp_path, plane, axes):
  nibabel = pytest.importorskip('nibabel')
  low, high, shape = np.array([3, 4, 2]), np.array([8, 6, 9]), (12, 10, 11)
  labels = np.zeros(shape, np.int16)
  labels[tuple(map(slice, low, high))] = 5
  spacing = np.array([1., 2., 1.])
  for name, values in (('labels', labels), ('image', labels * 10)):
    nibabel.save(nibabel.Nifti1Image(values, np.diag([*spacing, 1])),
                 tmp_path / f'{name}.nii.gz')
  section = masks.load_section('labels.nii.gz', str(tmp_path), plane, 5)
  picture, = slices.load('image.nii.gz', str(tmp_path), plane=plane, slices=[5])
  assert section.shape == picture.shape[:2]
  # Seen from the feet, the front or the left: both axes are reversed.
  across, up = axes
  size = np.array(shape) * spacing
  ends = [(size[a] - high[a] * spacing[a], size[a] - low[a] * spacing[a])
          for a in (across, up)]
  assert masks.boxes(section) == {5: (ends[0][0], ends[1][0], ends[0][1],
                                      ends[1][1])}
  inside = picture[:, :, 0][section == 5]
  assert np.median(inside) > np.median(picture[:, :, 0][section == 0])
  with pytest.raises(ValueError):
    masks.load_section('labels.nii.gz', str(tmp_path), plane, 50)


def test_fractions_are_no_labels(tmp_path):
  np.save(tmp_path / 'v.npy', np.full((4, 4, 4), .5, np.float32))
  with pytest.raises(ValueError, match='labels|axes'):
    masks.load_section('v.npy', str(tmp_path), 'axial', 1)


# Run lengths.

def test_run_lengths_are_those_of_coco():
  for seed in range(300):
    mask = random_mask(np.random.default_rng(seed))
    packed = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    size = [int(s) for s in mask.shape]
    for counts in (packed['counts'], packed['counts'].decode(),
                   rules.to_runs(mask)):
      found = masks.from_rle({'size': size, 'counts': counts})
      assert found.dtype == bool and found.flags.c_contiguous
      np.testing.assert_array_equal(found, mask)


@pytest.mark.parametrize('value', [
    {}, {'size': [2, 2]}, {'size': [2, 2], 'counts': [3]},
    {'size': [2, 2], 'counts': [-1, 5]}, {'size': [2, 2], 'counts': [4.]},
    {'size': [2, 2], 'counts': '\x00'}, {'size': [2, 2], 'counts': 'oooo'},
    {'size': [2, 2], 'counts': 'o' * 100}, {'size': [0, 2], 'counts': []},
    {'size': [2], 'counts': [2]}, {'size': [1 << 40, 1 << 40], 'counts': [1]},
    {'size': [2, 2], 'counts': [True, 3]}])
def test_damaged_run_lengths_are_refused(value):
  with pytest.raises(ValueError):
    masks.from_rle(value)


# Polygons.

def test_inside_of_a_polygon_are_the_pixels_whose_centres_are():
  for seed in range(60):
    rng = np.random.default_rng(seed)
    shape = tuple(int(s) for s in rng.integers(1, 60, 2))
    polygon = rng.uniform(-10, 70, (int(rng.integers(3, 7)), 2))
    found = masks.from_polygons([polygon.ravel().tolist()], shape)
    np.testing.assert_array_equal(
        found, rules.from_polygons([polygon.tolist()], shape))
    if len(polygon) == 3:   # one winding: even-odd and matplotlib agree
      ys, xs = np.indices(shape)
      inside = mpath.Path(polygon).contains_points(
          np.stack([xs.ravel() + .5, ys.ravel() + .5], 1))
      np.testing.assert_array_equal(found.ravel(), inside)


def test_the_rectangle_of_a_box_is_the_box():
  for box in [(2, 3, 7, 9), (0, 0, 10, 12), (4, 4, 5, 5)]:
    x1, y1, x2, y2 = box
    mask = masks.from_polygons([[x1, y1, x2, y1, x2, y2, x1, y2]], (12, 10))
    assert masks.box(mask) == box
    assert masks.area(mask) == (x2 - x1) * (y2 - y1)


def test_neighbours_share_no_pixel_and_miss_none():
  rng = np.random.default_rng(0)
  middle = rng.uniform(5, 15, 2)
  around = [[0, 0], [20, 0], [20, 20], [0, 20]]
  total = sum(masks.from_polygons([[a, b, middle.tolist()]], (20, 20)).astype(
      int) for a, b in zip(around, around[1:] + around[:1]))
  assert (total == 1).all()
  halves = [masks.from_polygons([[[x, 0], [x + 2.5, 0], [x + 2.5, 4], [x, 4]]],
                                (4, 5)).astype(int) for x in (0, 2.5)]
  assert (sum(halves) == 1).all()   # an edge on centres


def test_parts_of_one_object_are_joined():
  squares = [[0, 0, 2, 0, 2, 2, 0, 2], [5, 5, 8, 5, 8, 8, 5, 8]]
  assert masks.area(masks.from_polygons(squares, (9, 9))) == 4 + 9
  assert not masks.from_polygons([], (9, 9)).any()


@pytest.mark.parametrize('polygon', [
    [], [1, 2, 3, 4], [1, 2, 3, 4, 5], [[1, 2, 3]] * 3, [0, 0, 1, 0, 1, np.nan],
    [0, 0, 1, 0, 1, 1e300]])
def test_what_is_no_polygon_is_refused(polygon):
  with pytest.raises(ValueError):
    masks.from_polygons([polygon], (4, 4))


# Measures.

def test_measures_are_those_of_longhand():
  for seed in range(100):
    mask = random_mask(np.random.default_rng(seed), density=.2)
    ys, xs = np.nonzero(mask)
    if not xs.size:
      assert masks.box(mask) is masks.centroid(mask) is None
      continue
    assert masks.box(mask) == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    assert masks.area(mask) == len(xs)
    assert masks.centroid(mask) == pytest.approx(
        ((xs + .5).mean(), (ys + .5).mean()))


def test_boxes_of_every_label():
  rng = np.random.default_rng(0)
  labels = rng.choice([0, 3, 7, 65535], (30, 20)).astype(np.uint16)
  labels[:5] = 0
  found = masks.boxes(labels)
  assert list(found) == [3, 7, 65535]
  for label, one in found.items():
    assert one == masks.box(labels == label)
  assert masks.boxes(np.full((2, 3), 9)) == {9: (0, 0, 3, 2)}
  assert not masks.boxes(np.zeros((2, 3), int))
  assert masks.boxes(np.array([[-4, 0], [2**31 - 1, 0]])) == {
      -4: (0, 0, 1, 1), 2**31 - 1: (0, 1, 1, 2)}


def test_parts_are_numbered_by_size():
  mask = np.array([[1, 0, 0, 0, 1],
                   [0, 0, 1, 0, 0],
                   [0, 1, 0, 0, 1],
                   [1, 1, 0, 0, 1]])
  assert masks.components(mask).tolist() == [
      [3, 0, 0, 0, 4], [0, 0, 1, 0, 0], [0, 1, 0, 0, 2], [1, 1, 0, 0, 2]]
  assert masks.components(mask, least=2).max() == 2
  assert masks.components(mask, least=9).max() == 0
  assert masks.components(np.zeros((2, 2))).tolist() == [[0, 0], [0, 0]]


# Drawing.

def test_an_outline_lies_inside_of_what_it_shows():
  image = np.zeros((20, 30, 3), np.uint8)
  mask = np.zeros((20, 30), bool)
  mask[4:9, 5:12] = True
  drawn = masks.outline(image, masks=[mask], boxes=[(15, 10, 20, 16)])
  assert not image.any()
  coloured = drawn.any(2)
  assert coloured[4:9, 5:12].sum() == 7 * 5 - 5 * 3
  assert masks.box(coloured[:, 13:]) == (2, 10, 7, 16)
  assert coloured[:, 13:].sum() == 5 * 6 - 3 * 4
  assert tuple(drawn[4, 5]) == masks.COLOURS[0]
  assert tuple(drawn[10, 15]) == masks.COLOURS[1]


def test_labels_are_drawn_and_odd_boxes_do_no_harm():
  image = np.zeros((60, 90, 3), np.uint8)
  boxes = [(30, 30, 50, 50), (-20, -20, 500, 5), (200, 200, 300, 300),
           (9, 9, 3, 3)]
  plain = masks.outline(image, boxes=boxes)
  named = masks.outline(image, boxes=boxes, labels=['liver', 'x' * 999, 'y'])
  assert (named != plain).any((1, 2)).any()
  for wrong in ({'labels': ['a']}, {'boxes': [(0, 0, np.nan, 1)]},
                {'masks': [np.zeros((3, 3))]}):
    with pytest.raises(ValueError):
      masks.outline(image, **wrong)
