import base64
import html.parser
import io
import os
import re
import stat

import numpy as np
from PIL import Image
import pytest

from medrl import types
from medrl.data import contact_sheet

HERE = f'{__name__}.'


def clip(path, root, *, frames=20):
  del path, root
  return types.Clip(np.zeros((frames, 30, 40, 3), np.uint8),
                    np.arange(frames) / 8)


def slices(path, root):
  del path, root
  return tuple(np.full((20, 30, 3), i, np.uint8) for i in range(4))


def signal(path, root):
  del path, root
  values = np.sin(np.arange(2400, dtype=np.float32) / 9)[None].repeat(2, 0)
  values[1, 100:300] = np.nan
  return types.Signal(values, 200., ('I', 'V<1>'))


def fails(path, root):
  raise RuntimeError(f'<b>no</b> {path}')


def record(name, *media, kind='text', answer='x', **more):
  media = tuple(m if isinstance(m, types.Media) else types.Media(m, (
      'medrl.media.image.load')) for m in media)
  return types.Record(id=name, question=more.pop('question', 'What?'),
                      answer=answer, answer_type=kind, media=media, **more)


class Page(html.parser.HTMLParser):
  """Text, tags and pictures of a page; fails where tags do not match."""

  def __init__(self, text):
    super().__init__()
    self.open, self.tags, self.images = [], [], []
    self.said, self.right = [], []
    self.feed(text)
    assert not self.open

  def handle_starttag(self, tag, attrs):
    attrs = dict(attrs)
    self.tags.append(tag)
    if tag == 'img':
      kind, data = attrs['src'].split(';base64,')
      assert kind == 'data:image/jpeg'
      self.images.append(np.asarray(Image.open(io.BytesIO(
          base64.b64decode(data)))).astype(int))
    elif tag != 'meta':
      self.open.append((tag, attrs.get('class', '')))

  def handle_endtag(self, tag):
    assert self.open.pop()[0] == tag

  def handle_data(self, data):
    if self.open and self.open[-1][0] != 'style' and data.strip():
      self.said.append(data.strip())
      if 'right' in self.open[-1][1]:
        self.right.append(data.strip())


def page(tmp_path, *records, root=None):
  path = tmp_path / 'sheet.html'
  failed = contact_sheet.write(path, [('train', r) for r in records],
                               str(root or tmp_path), title='a & b')
  return Page(path.read_text(encoding='utf-8')), failed


def test_only_the_owner_can_read_it(tmp_path):
  path = tmp_path / 'sheet.html'
  path.write_text('an older one, of anyone')
  os.chmod(path, 0o644)
  page(tmp_path, record('r'))
  assert stat.S_IMODE(path.stat().st_mode) == 0o600
  assert 'older' not in path.read_text()


def test_nothing_of_a_record_becomes_markup(tmp_path):
  nasty = '"><script>alert(1)</script><img src=x onerror=y>\x00\udc80 \u202e'
  found, failed = page(
      tmp_path, record(nasty, types.Media(nasty), question=nasty, task=nasty,
                       answer=nasty, unit=nasty),
      record('o', kind='choice', answer='<i>', options={'<i>': nasty}))
  assert failed == 1
  assert not {'script', 'i'} & set(found.tags) and not found.images
  assert any('<script>alert(1)</script>' in text for text in found.said)
  text = (tmp_path / 'sheet.html').read_text()
  assert "default-src 'none'" in text and '\u202e' not in text


def test_no_patient_no_date(tmp_path):
  page(tmp_path, record('r', subject='JANE', study='S77', site='north',
                        date='2020-01-02'))
  text = (tmp_path / 'sheet.html').read_text()
  assert not re.search('JANE|S77|north|2020', text)


@pytest.mark.parametrize('one, right', [
    (record('r', kind='choice', answer='B', options={'A': 'no', 'B': 'yes'}),
     ['B. yes']),
    (record('r', kind='choices', answer=('A', 'C'),
            options={'A': 'x', 'B': 'y', 'C': 'z'}), ['A. x', 'C. z']),
    (record('r', kind='quantity', answer=4.5, unit='mm'), ['4.5 mm']),
    (record('r', kind='labels', answer=['caf\u00e9', 'b']),
     ['["caf\u00e9", "b"]']),
    (record('r', kind='choice', answer=None, options={'A': 'no'}), [])])
def test_the_right_answer_is_marked(tmp_path, one, right):
  found, _ = page(tmp_path, one)
  assert found.right == right
  assert ('the answer is hidden' in found.said) == (one.answer is None)


def test_boxes_masks_and_points_are_drawn_on_the_first_image(tmp_path):
  for name in 'ab':
    Image.new('L', (672, 336), 100).save(tmp_path / f'{name}.png')
  plain = record('r', 'a.png')
  boxed = record('r', 'a.png', 'b.png', kind='box', answer=[200, 40, 400, 240])
  found, failed = page(
      tmp_path, plain, boxed,
      record('r', 'a.png', kind='boxes', answer=[[0, 0, 60, 60],
                                                 [300, 200, 500, 300]]),
      record('r', 'a.png', meta={'points': [(100, 50)]}),
      record('r', 'a.png', meta={'mask': [[100, 100, 300, 100, 300, 300]],
                                 'width': 672, 'height': 336}),
      record('r', types.Media('s', HERE + 'slices'), kind='box',
             answer=[5, 5, 25, 15]))
  assert not failed
  marked = [np.ptp(image, axis=(0, 1)).max() > 30 for image in found.images]
  assert marked == [False, True, False, True, True, True, True, *[False] * 3]
  # At half the size, the box is 100..200 across and 20..120 down.
  rows, columns = np.nonzero(np.ptp(found.images[1], axis=2) > 30)
  assert abs(columns.min() - 99) <= 2 and abs(columns.max() - 200) <= 2
  assert abs(rows.min() - 19) <= 2 and abs(rows.max() - 120) <= 2


def test_many_stills_are_thinned_evenly(tmp_path):
  found, _ = page(tmp_path, record('r', types.Media('c', HERE + 'clip')),
                  record('s', types.Media('s', HERE + 'slices')))
  assert len(found.images) == contact_sheet.STILLS + 4
  times = [text for text in found.said if re.fullmatch(r'[\d.]+ s', text)]
  assert times[0] == '0.00 s' and times[-1] == '2.38 s'
  assert len(times) == contact_sheet.STILLS
  assert [text for text in found.said if ' of 4' in text] == [
      f'{i} of 4' for i in (1, 2, 3, 4)]


def test_a_tiny_image_keeps_its_pixels(tmp_path):
  pixels = np.zeros((4, 4), np.uint8)
  pixels[1, 2] = 255
  Image.fromarray(pixels).save(tmp_path / 'a.png')
  image = page(tmp_path, record('r', 'a.png'))[0].images[0]
  assert image.shape[:2] == (336, 336)
  assert image[126, 210].min() > 240 and image[126, 120].max() < 15


def test_a_signal_is_drawn_with_its_gaps(tmp_path):
  found, _ = page(tmp_path, record('r', types.Media('e', HERE + 'signal')))
  assert found.tags.count('polyline') == 3   # lead 2 is in two parts
  assert 'V<1>' in found.said
  assert '2 leads, 12.0 s at 200 Hz, the first 10 s' in found.said


def test_a_broken_record_is_shown_with_its_reason(tmp_path):
  Image.new('L', (50, 50), 90).save(tmp_path / 'a.png')
  found, failed = page(
      tmp_path, record('1', types.Media('p', HERE + 'fails'), 'a.png'),
      record('2', 'none.png', '../x.png'), record('3', 'a.png'),
      record('4', 'a.png', kind='box', answer=[1, 'x']),
      record('5', types.Media('p', 'no.such.loader')))
  assert failed == 4 and len(found.images) == 3
  said = ' '.join(found.said)
  for reason in ('RuntimeError: <b>no</b> p', 'FileNotFoundError: no file',
                 'outside the data root', 'marks:', 'no.such.loader'):
    assert reason in said
