"""Videos made with known frames at known times, and what is read of them.

What is chosen is checked against a search in plain NumPy over all frames.
"""

from fractions import Fraction
import io
import itertools
import pathlib

import numpy as np
from PIL import Image
import pytest

from medrl.media import frame_choice
from medrl.media import image
from medrl.media import video

av = pytest.importorskip('av')
DATA = pathlib.Path(__file__).parents[3] / 'shared' / 'data'
SIZE = 48, 64   # height, width
# Frame times in ms: uneven, none at a round moment.
STEPS = np.random.default_rng(0).integers(10, 80, 59)
TIMES = np.concatenate([[0], np.cumsum(STEPS)])


def picture(index, size=SIZE):
  """Frame `index`, told from others by the grey of its halves."""
  pixels = np.full((*size, 3), 20 + 30 * (index % 8), np.uint8)
  pixels[:, size[1] // 2:] = 20 + 30 * (index // 8 % 8)
  return pixels


def indices(frames):
  """Which frames these are, modulo 64."""
  quarter = frames.shape[2] // 4
  left, right = frames[:, 4, quarter, 1], frames[:, 4, 3 * quarter, 1]
  return np.rint((left - 20.) / 30) + 8 * np.rint((right - 20.) / 30)


def write(target, container, codec, stamps, base, *, pixels='yuv420p',
          group=12, b_frames=0, size=SIZE, codec_options=None, **options):
  with av.open(target, 'w', format=container, options=options) as out:
    stream = out.add_stream(codec, rate=25, options=codec_options)
    stream.height, stream.width = size
    stream.pix_fmt, stream.time_base = pixels, base
    stream.codec_context.time_base = base
    stream.codec_context.gop_size = group
    stream.bit_rate = 4_000_000
    stream.codec_context.max_b_frames = b_frames
    for i, stamp in enumerate(stamps):
      frame = av.VideoFrame.from_ndarray(
          picture(i, size), format='rgb24')
      frame.pts, frame.time_base = int(stamp), base
      out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


MS, FRAME = Fraction(1, 1000), Fraction(1, 25)
# container, codec, frame times in `base`, other options
KINDS = {
    'a.mp4': ('mp4', 'mpeg4', TIMES, MS, {}),
    'b_frames.mp4': ('mp4', 'mpeg4', TIMES, MS, {'b_frames': 2}),
    'a.mov': ('mov', 'mjpeg', TIMES, MS, {'pixels': 'yuvj420p'}),
    'a.mkv': ('matroska', 'mpeg2video', np.arange(60), FRAME,
              {'b_frames': 2}),
    'open.mp4': ('mp4', 'libx264', TIMES, MS, {
        'b_frames': 3, 'codec_options': {'x264-params': 'open-gop=1'}}),
    'late.mkv': ('matroska', 'mpeg4', 7000 + TIMES, MS, {}),
    'no_index.mkv': ('matroska', 'mpeg4', TIMES, MS, {'live': '1'}),
    'a.webm': ('webm', 'libvpx', TIMES, MS, {}),
    'a.avi': ('avi', 'mpeg4', np.arange(60), FRAME, {}),
    'b_frames.avi': ('avi', 'mpeg4', np.arange(60), FRAME, {'b_frames': 2}),
    'a.gif': ('gif', 'gif', TIMES // 10, Fraction(1, 100), {'pixels': 'gray'}),
}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  made = tmp_path_factory.mktemp('video')
  for name, (container, codec, stamps, base, options) in KINDS.items():
    if codec in av.codecs_available:
      write(str(made / name), container, codec, stamps, base, **options)
  return made


def read(folder, name, **options):
  if not (folder / name).exists():
    pytest.skip(f'no encoder for {name}')
  return video.load(name, str(folder), **options)


@pytest.mark.parametrize('name', KINDS)
def test_all_frames_with_their_times(folder, name):
  clip = read(folder, name)
  _, _, stamps, base, _ = KINDS[name]
  want = (stamps - stamps[0]) * float(base)
  assert clip.frames.shape == (60, *SIZE, 3) and clip.frames.dtype == np.uint8
  np.testing.assert_allclose(clip.times, want, atol=1e-4)
  np.testing.assert_array_equal(indices(clip.frames), np.arange(60))
  embedded = video.decode((folder / name).read_bytes(), name)
  np.testing.assert_array_equal(embedded.frames, clip.frames)
  np.testing.assert_array_equal(embedded.times, clip.times)


def nearest(times, moments):
  return sorted({int(np.argmin(np.abs(times - m))) for m in moments})


@pytest.mark.parametrize('seek', [2., .2, 0.])
@pytest.mark.parametrize('name', KINDS)
def test_chosen_frames_are_those_of_a_full_decode(folder, name, seek,
                                                  monkeypatch):
  full = read(folder, name)
  monkeypatch.setattr(video, 'SEEK_SECONDS', seek)
  times, end = full.times, full.times[-1]
  for options, moments in [
      ({'rate': 3.}, np.arange(0, end, 1 / 3)),
      ({'rate': 500}, times), ({'rate': .01}, [0]),
      ({'count': 1}, [end / 2]), ({'count': 2}, [0, end]),
      ({'count': 7}, np.linspace(0, end, 7)), ({'count': 999}, times),
      ({'times': (.5, .51, 1.9)}, (.5, .51, 1.9)), ({'times': (0,)}, [0]),
      ({'times': [end]}, [end])]:
    clip = read(folder, name, **options)
    want = nearest(times, moments)
    np.testing.assert_array_equal(clip.times, times[want])
    np.testing.assert_array_equal(clip.frames, full.frames[want])


def test_few_frames_of_a_long_video_are_sought(tmp_path, monkeypatch):
  write(str(tmp_path / 'a.mp4'), 'mp4', 'mpeg4', 40 * np.arange(3000), MS,
        group=25, size=(16, 16))
  decoded, real = [], video._decoded

  def counted(*args):
    for frame in real(*args):
      decoded.append(frame[0])
      yield frame
  monkeypatch.setattr(video, '_decoded', counted)
  for options, kept in (({'count': 8}, 8), ({'times': (31.7, 101.3)}, 2),
                        ({'rate': .1}, 12)):
    decoded.clear()
    clip = video.load('a.mp4', str(tmp_path), **options)
    assert len(clip.times) == kept and len(decoded) < 40 * kept
    np.testing.assert_array_equal(indices(clip.frames),
                                  np.rint(clip.times * 25) % 64)
  # Key frames lie further apart than the moments: one pass, not many.
  write(str(tmp_path / 'b.mp4'), 'mp4', 'mpeg4', 40 * np.arange(600), MS,
        group=600, size=(16, 16))
  decoded.clear()
  assert len(video.load('b.mp4', str(tmp_path), rate=.4).times) == 10
  assert len(decoded) < 800


def rotated(data, matrix):
  """An MP4 whose track header has the matrix [a b; c d] (ISO 14496-12)."""
  data = bytearray(data)
  at = data.index(b'tkhd') + 4 + 40
  for place, value in zip((0, 4, 12, 16), itertools.chain(*matrix)):
    data[at + place:at + place + 4] = (value << 16 & 0xffffffff).to_bytes(
        4, 'big')
  return bytes(data)


@pytest.mark.parametrize('matrix', [
    ((1, 0), (0, 1)), ((0, 1), (-1, 0)), ((-1, 0), (0, -1)), ((0, -1), (1, 0))])
def test_frames_are_turned_upright(matrix):
  picture = np.zeros((32, 64, 3), np.uint8)
  picture[:16, :32], picture[:16, 32:] = (255, 0, 0), (0, 255, 0)
  picture[16:, :32] = 0, 0, 255
  stream = io.BytesIO()
  with av.open(stream, 'w', format='mp4') as out:
    track = out.add_stream('mpeg4', rate=25)
    track.width, track.height = 64, 32
    out.mux(track.encode(av.VideoFrame.from_ndarray(picture, format='rgb24')))
    out.mux(track.encode(None))
  got = video.decode(rotated(stream.getvalue(), matrix), 'a').frames[0]
  # A pixel at (x, y) from the middle is shown at (x, y) @ matrix.
  turn = np.array(matrix)
  shape = np.abs(np.array([64, 32]) @ turn)
  assert got.shape[:2] == (shape[1], shape[0])
  for x, y in itertools.product((-16, 16), (-8, 8)):
    u, v = np.array([x, y]) @ turn + shape // 2
    np.testing.assert_allclose(got[v, u].astype(int),
                               picture[y + 16, x + 32].astype(int), atol=25)


def test_frames_are_reduced(folder):
  clip = read(folder, 'a.mp4', max_side=32, count=3)
  assert clip.frames.shape == (3, 24, 32, 3)
  full = read(folder, 'a.mp4', max_side=640, count=3)
  assert full.frames.shape == (3, *SIZE, 3)
  np.testing.assert_allclose(clip.frames.mean((1, 2, 3)),
                             full.frames.mean((1, 2, 3)), atol=1)


@pytest.mark.parametrize('options, words', [
    ({'rate': 1., 'count': 2}, 'give one of them'),
    ({'rate': -1.}, 'frames a second'), ({'rate': float('nan')}, 'a second'),
    ({'rate': '2'}, 'a second'), ({'count': -1}, 'whole number'),
    ({'count': 2.}, 'whole number'), ({'count': True}, 'whole number'),
    ({'max_side': 1.5}, 'whole number'), ({'times': (1., .5)}, 'increasing'),
    ({'times': (-1.,)}, 'seconds from 0'), ({'times': ('a',)}, 'seconds'),
    ({'times': 1.5}, 'a list'),
    ({'count': 10**6}, '1000000 frames wanted'),
    ({'times': (.5, 9.)}, 'time 9 s is wanted; its last frame is at 2.6')])
def test_options_that_cannot_be(folder, options, words):
  with pytest.raises(ValueError, match=words):
    read(folder, 'a.mp4', **options)


def test_clips_are_bounded(folder, monkeypatch):
  monkeypatch.setattr(frame_choice, 'MAX_FRAMES', 20)
  with pytest.raises(ValueError, match='more than 20 frames of .48, 64.'):
    read(folder, 'a.mp4')
  monkeypatch.setattr(frame_choice, 'MAX_CLIP_BYTES', 5 * 48 * 64 * 3)
  with pytest.raises(ValueError, match='more than 5 frames'):
    read(folder, 'a.mp4', count=6)
  assert len(read(folder, 'a.mp4', count=5).times) == 5
  monkeypatch.setattr(image, 'MAX_PIXELS', 1000)
  with pytest.raises(ValueError, match="'a.mp4' cannot be read as a video"):
    read(folder, 'a.mp4')


@pytest.mark.parametrize('name', KINDS)
@pytest.mark.parametrize('part', [.01, .3, .6])
def test_files_that_were_cut_off(folder, name, part):
  if name == 'no_index.mkv':
    pytest.skip('a live stream does not tell its length')
  read(folder, name, count=1)
  data = (folder / name).read_bytes()
  with pytest.raises(ValueError, match='cannot be read as a video'):
    video.decode(data[:int(len(data) * part)], name)


PLAYLIST = '#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n'


@pytest.mark.parametrize('data, words', [
    (b'', 'it is empty'), (b'no video at all', 'expected MP4'),
    (PLAYLIST.format('/etc/passwd').encode(), 'expected MP4'),
    (b'ffconcat version 1.0\nfile /etc/passwd\n', 'expected MP4'),
    (b'\0\0\0\x18ftypheic' + bytes(40), 'HEIF'),
    (b'\0\0\0\x18ftypisom' + bytes(40), 'Invalid data'),
    (b'GIF89a' + bytes(40), 'cut off')])
def test_what_is_no_video(tmp_path, data, words):
  (tmp_path / 'a.mp4').write_bytes(data)
  for call in (lambda: video.decode(data, 'a.mp4'),
               lambda: video.load('a.mp4', str(tmp_path))):
    with pytest.raises(ValueError, match=f"'a.mp4' cannot be read.*{words}"):
      call()


def test_sound_alone_is_no_video(tmp_path):
  with av.open(str(tmp_path / 'a.mp4'), 'w') as out:
    track = out.add_stream('aac', rate=8000)
    sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32),
                                       format='fltp', layout='mono')
    sound.sample_rate = 8000
    out.mux(track.encode(sound))
    out.mux(track.encode(None))
  with pytest.raises(ValueError, match='no video stream'):
    video.load('a.mp4', str(tmp_path))


@pytest.fixture
def frames(tmp_path):
  (tmp_path / 'clip').mkdir()
  for i in range(12):   # 10 sorts before 2 as text
    Image.fromarray(picture(i, (8, 9))).save(
        tmp_path / 'clip' / f'frame{i}.png')
  (tmp_path / 'clip' / 'note.txt').write_text('no frame')
  return tmp_path


@pytest.mark.parametrize('options, want', [
    ({}, range(12)), ({'count': 3}, [0, 5, 11]), ({'count': 1}, [5]),
    ({'rate': 5.}, [0, 2, 4, 6, 8, 10]), ({'times': (.31, .39, 1.15)},
                                          [3, 4, 11])])
def test_folders_of_frames(frames, options, want):
  clip = video.load_frames('clip', str(frames), pattern='frame*.png',
                           interval_s=.1, **options)
  np.testing.assert_allclose(clip.times, np.array(want) * .1)
  assert indices(clip.frames).tolist() == list(want)


def test_ties_go_to_the_earlier_frame(frames):
  clip = video.load_frames('clip', str(frames), pattern='frame*.png',
                           interval_s=.5, times=(.25, 1.75))
  np.testing.assert_array_equal(clip.times, [0, 1.5])


@pytest.mark.parametrize('options, words', [
    ({'pattern': '*.jpg'}, 'no file whose name'),
    ({'interval_s': 0}, 'interval_s 0'), ({'times': (1.3,)}, 'time 1.3 s'),
    ({'pattern': '*'}, 'note.txt'), ({'pattern': '../*'}, 'no file whose')])
def test_folders_that_cannot_be_read(frames, options, words):
  with pytest.raises(ValueError, match=words):
    video.load_frames('clip', str(frames), **{
        'pattern': 'frame*.png', 'interval_s': .1, **options})


def test_frames_lie_below_the_root_and_have_one_size(frames):
  options = {'pattern': 'frame*.png', 'interval_s': .1}
  picture = frames / 'clip' / 'frame3.png'
  picture.rename(frames / 'kept.png')
  picture.symlink_to(frames / 'kept.png')
  assert len(video.load_frames('clip', str(frames), **options).times) == 12
  with pytest.raises(ValueError, match='outside the data root'):
    video.load_frames('.', str(frames / 'clip'), **options)
  picture.unlink()
  Image.new('RGB', (5, 5)).save(picture)
  with pytest.raises(ValueError, match='expected one size'):
    video.load_frames('clip', str(frames), **options)


def test_a_real_cine_loop():
  note = DATA / 'video_us_cine'
  if not note.exists():
    pytest.skip('no ../shared/data/video_us_cine beside the repository')
  clip = video.load_frames('us_cine_a', str(note), pattern='frame_*.jpg',
                           interval_s=.033333, count=4)
  assert clip.frames.shape == (4, 240, 320, 3)
  np.testing.assert_allclose(clip.times, np.array([0, 10, 19, 29]) * .033333)
  want = [image.load(f'us_cine_a/frame_{i:03}.jpg', str(note))
          for i in (0, 10, 19, 29)]
  np.testing.assert_array_equal(clip.frames, want)
