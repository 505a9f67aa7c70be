"""Videos, and folders of frames, to clips: frames by rate, count or times.

It decodes with PyAV (FFmpeg's libraries) only what the wanted frames need. It
reads neither sound nor DICOM cine loops (see `dicom`), and plays nothing.
"""

import collections
import fnmatch
import functools
import io
import itertools
import math
import os
import re

import numpy as np

from medrl import types
from medrl.media import files
from medrl.media import frame_choice
from medrl.media import image

# A jump of more seconds than this is tried by a seek, since key frames are
# mostly 0.5 to 10 s apart; a reader that sees longer gaps raises it.
SEEK_SECONDS = 2.
# What a file starts with, from which byte, and FFmpeg's reader for it. The
# reader is forced: play lists and scripts, which name other files and hosts,
# are videos to FFmpeg as well.
READERS = (
    (4, b'ftyp', 'mov'), (4, b'moov', 'mov'), (4, b'mdat', 'mov'),
    (4, b'wide', 'mov'), (4, b'free', 'mov'), (4, b'skip', 'mov'),
    (0, b'\x1a\x45\xdf\xa3', 'matroska'),
    (8, b'AVI ', 'avi'), (0, b'GIF87a', 'gif'), (0, b'GIF89a', 'gif'),
)
STILL_BRANDS = (b'heic', b'heix', b'mif1', b'msf1', b'avif', b'avis')


def load(path: str, root: str, *, rate: float = 0., count: int = 0,
         times: tuple[float, ...] = (), max_side: int = 0) -> types.Clip:
  """Reads frames of an MP4, MOV, AVI, Matroska, WebM or animated GIF file.

  Times are the presentation times that the file holds, in seconds from its
  first frame. At most one of `rate`, `count` and `times` may be given; each
  asks for moments, and the frame nearest to each moment (the earlier one of
  two) is taken, each frame once:

    rate    0, 1 / rate, 2 / rate, ... up to the last frame
    count   `count` moments from the first to the last frame at equal
            distances, both included; for 1 the middle
    times   those

  So a clip has fewer frames than moments where the recording is that sparse.
  With none of them all frames are taken.

  Args:
    path: below the data root.
    root: the data root.
    rate: moments a second.
    count: number of moments.
    times: moments in seconds, increasing.
    max_side: the longer side in pixels is reduced to it; 0 leaves the size.

  Returns:
    A clip, upright if the file says how it was held. Its arrays belong to the
    caller.

  Raises:
    ValueError: outside `root`, damaged, cut off before its end, no video, a
      moment beyond its end, or more than `frame_choice.MAX_FRAMES` frames or
      its `MAX_CLIP_BYTES` bytes wanted.
    FileNotFoundError: there is no such file.
    ImportError: PyAV is missing.
  """
  full = files.locate(path, root)
  with open(full, 'rb') as stream:
    head = stream.read(16)
    stream.seek(max(full.stat().st_size - 64, 0))
    tail = stream.read()
  return _load(str(full), path, head, tail, rate, count, times, max_side)


def decode(data: bytes, name: str, *, rate: float = 0., count: int = 0,
           times: tuple[float, ...] = (), max_side: int = 0) -> types.Clip:
  """As `load`, of the bytes of a file; errors call it `name`."""
  return _load(io.BytesIO(data), name, data[:16], data[-64:], rate, count,
               times, max_side)


def load_frames(path: str, root: str, *, pattern: str, interval_s: float,
                rate: float = 0., count: int = 0,
                times: tuple[float, ...] = ()) -> types.Clip:
  """Reads a folder of images as a clip; numbers in names give their order.

  Args:
    path: of the folder, below the data root.
    root: the data root.
    pattern: of the names: 'frame_*.jpg'.
    interval_s: seconds from one frame to the next.
    rate, count, times: as in `load`. Only the chosen files are read.

  Raises:
    ValueError: as in `load` and `image.load`, no name fits the pattern, or
      the frames differ in size.
    FileNotFoundError: there is no such folder.
  """
  frame_choice.check(rate, count, times)
  if not (frame_choice.is_number(interval_s) and interval_s > 0):
    raise ValueError(f'interval_s {interval_s!r}; expected seconds from one '
                     'frame to the next, above 0')
  folder = files.locate_folder(path, root)
  names = sorted(fnmatch.filter((p.name for p in folder.iterdir()), pattern),
                 key=_natural)
  if not names:
    raise ValueError(f'{path!r} holds no file whose name is like {pattern!r}')
  # Found before any is read: a link out of the root is no damage.
  frames = [
      (i * interval_s, str(files.locate(os.path.join(path, name), root)))
      for i, name in enumerate(names)]
  moments = frame_choice.to_moments(rate, count, times, lambda: frames[-1][0])
  chosen = frames if moments is None else frame_choice.nearest(
      lambda _: iter(frames), moments, math.inf,
      frame_choice.to_slack(count, times, interval_s))
  return files.decoded(path, 'a clip', lambda: frame_choice.clip(
      (time, image.load(name, root)) for time, name in chosen))


def is_video(head: bytes) -> bool:
  """Whether a file that starts with `head` (16 bytes) is read here."""
  return _reader(head) is not None


def _load(source, name, head, tail, rate, count, times, max_side):
  frame_choice.check(rate, count, times, max_side)
  av = _av()
  return files.decoded(name, 'a video', lambda: _read(
      av, source, _known(head, tail), (rate, count, times), max_side))


def _av():
  try:
    import av
  except ImportError as error:
    raise ImportError('videos are read with PyAV, which is missing; install '
                      'with: pip install -r launch/requirements-media.txt'
                      ) from error
  return av


def _reader(head: bytes) -> str | None:
  return next((reader for start, magic, reader in READERS
               if head[start:start + len(magic)] == magic), None)


def _known(head: bytes, tail: bytes) -> str:
  """The name of FFmpeg's reader for a file."""
  reader = _reader(head)
  if reader is None:
    raise ValueError('its first bytes are ' + (
        f'{head[:12]!r}' if head else 'missing: it is empty')
        + '; expected MP4, MOV, AVI, Matroska, WebM or GIF')
  if reader == 'mov' and head[8:12] in STILL_BRANDS:
    raise ValueError('it is a HEIF or AVIF picture; convert it to PNG or JPEG')
  if reader == 'gif':
    width, height = (int.from_bytes(head[k:k + 2], 'little') for k in (6, 8))
    _check_size(width, height)
  # FFmpeg takes a GIF that was cut off for a shorter one.
  if reader == 'gif' and not tail.rstrip(b'\0').endswith(b';'):
    raise ValueError('it has no end mark, so it was cut off')
  return reader


def _check_size(width: int, height: int):
  if width * height > image.MAX_PIXELS:
    raise ValueError(f'{height} x {width} is more than {image.MAX_PIXELS} '
                     'pixels')


def _read(av, source, reader, wanted, max_side) -> types.Clip:
  limits = {'max_pixels': str(image.MAX_PIXELS)}
  with av.open(source, format=reader, options=limits) as container:
    if not container.streams.video:
      raise ValueError('it has no video stream')
    stream = container.streams.video[0]
    codec = stream.codec_context
    if codec is None:
      raise ValueError('its video codec is not known')
    _check_size(codec.width, codec.height)
    # Threads hold frames back, and a data worker is one of many.
    codec.thread_count = 1
    codec.options = limits
    start = functools.partial(_frames_from, container, stream)
    moments = frame_choice.to_moments(
        *wanted, lambda: _last_time(container, stream))
    interval = 1 / float(stream.average_rate or 25)
    # A GIF has no key frames; for AVI see `_decoded`.
    whole = reader == 'gif' or reader == 'avi' and codec.has_b_frames
    chosen = start(0.) if moments is None else frame_choice.nearest(
        start, moments, math.inf if whole else SEEK_SECONDS,
        frame_choice.to_slack(*wanted[1:], interval))
    return frame_choice.clip(
        (time, _pixels(frame, max_side)) for time, frame in chosen)


def _time(stream, pts: int) -> float:
  return float((pts - (stream.start_time or 0)) * stream.time_base)


def _seek(container, stream, time: float):
  pts = int(time / stream.time_base) + (stream.start_time or 0)
  container.seek(pts, stream=stream)


def _frames_from(container, stream, moment: float):
  """(time, frame) from a key frame on that is not after `moment` (s)."""
  back = 0.
  while moment > 0:
    # Some files index by decoding time, which lies before presentation.
    _seek(container, stream, max(moment - back, 0.))
    frames = _decoded(container, stream)
    first = next(frames, None)
    if first is not None and first[1].key_frame and first[0] <= moment:
      return itertools.chain((first,), frames)
    if back >= moment:
      break
    back = max(2 * back, 1.)
  container.seek(stream.start_time or 0, stream=stream)
  return _decoded(container, stream)


def _decoded(container, stream):
  """(time, frame) from where the container is.

  AVI holds no presentation times and FFmpeg's guesses are wrong where frames
  are stored out of order; so the k-th frame gets the k-th packet's time.
  """
  time, guessed = -math.inf, container.format.name == 'avi'
  stored = collections.deque()
  for packet in container.demux(stream):
    if packet.is_corrupt:
      raise ValueError(f'it is damaged or cut off after {time:g} s')
    if guessed and packet.size:
      stored.append(packet.dts)
    for frame in packet.decode():
      pts = (stored.popleft() if stored else None) if guessed else (
          frame.dts if frame.pts is None else frame.pts)
      if pts is None:
        raise ValueError('a frame has no time')
      # A frame that another one replaces at once is never seen.
      if _time(stream, pts) > time:
        time = _time(stream, pts)
        yield time, frame
  _check_end(container, stream, time)


def _length(container, stream) -> float | None:
  """Seconds from the first frame to the end, as the header says."""
  if stream.duration is not None:
    return float(stream.duration * stream.time_base)
  if container.duration is not None:   # Matroska's counts from time 0
    return container.duration / 1e6 - float(
        (stream.start_time or 0) * stream.time_base)
  return None


def _check_end(container, stream, time: float):
  """Raises where frames stop before the file says that they do."""
  end = _length(container, stream)
  # Without a length of its own: another stream may be the longer one.
  if end is None or math.isinf(time) or (
      stream.duration is None and len(container.streams) > 1):
    return
  if time + 2 / float(stream.average_rate or 25) + .1 < end:
    raise ValueError(f'it is cut off: it should last {end:g} s, and its last '
                     f'frame is at {time:g} s')


def _last_time(container, stream) -> float:
  """The time of the last frame, from packets alone."""
  length = _length(container, stream)
  if length is not None:
    _seek(container, stream, length)
  guessed = container.format.name == 'avi'
  stamps = (p.dts if guessed or p.pts is None else p.pts
            for p in container.demux(stream) if p.size and not p.is_discard)
  return max((_time(stream, s) for s in stamps if s is not None), default=0.)


def _pixels(frame, max_side: int) -> np.ndarray:
  """uint8 [h, w, 3], upright."""
  if frame.is_corrupt:
    raise ValueError('a wanted frame is damaged')
  scale = min(1., max_side / max(frame.width, frame.height)) if max_side else 1.
  pixels = frame.to_ndarray(
      format='rgb24', width=max(round(frame.width * scale), 1),
      height=max(round(frame.height * scale), 1), threads=1,
      # The same pixels on every machine.
      interpolation=_interpolation('AREA' if scale < 1 else 'BICUBIC'))
  # Counterclockwise, as is the angle.
  return np.rot90(pixels, frame.rotation // 90) if (
      frame.rotation % 90 == 0) else pixels


@functools.cache
def _interpolation(kind: str):
  flags = _av().video.reformatter.Interpolation
  return flags[kind] | flags.ACCURATE_RND | flags.BITEXACT


def _natural(name: str) -> list:
  return [(0, int(part), '') if part.isdigit() else (1, 0, part)
          for part in re.split(r'(\d+)', name)]
