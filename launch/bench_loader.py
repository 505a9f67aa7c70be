"""Times the loader against bare decoding, and watches its memory.

  python launch/bench_loader.py --data=../shared/data --minutes=10

CPU seconds a record: reading, decoding, tokenising, cutting into patches,
packing by window and stacking to a batch, against Pillow's (or pydicom's)
decode and a resize to the same size, on the same files, taking turns in one
run. Then `--minutes` of streaming the same files with two workers: resident
memory of all processes over time. Timings say little on a busy machine; the
ratio of turns says more.
"""

import argparse
import os
import pathlib
import statistics
import sys
import tempfile
import time

import numpy as np
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

# pylint: disable=wrong-import-position
from medrl import build
from medrl import types
from medrl.data import batching
from medrl.data import mixture
from medrl.data import pipeline
from medrl.media import cache
from medrl.models import qwen2_5_vl
from medrl.processors import qwen_patches
from medrl.processors import template
from medrl.processors import text as text_lib

SIDES = (224, 448, 1024)
FILES = 16
TURNS = 7
# Of one frame each: raw, RLE, JPEG lossless and JPEG 2000, grey and colour.
DICOM = ('files/CT_small.dcm', 'files/MR_small_RLE.dcm', 'files/vlut_04.dcm',
         'files/JPGLosslessP14SV1_1s_1f_8b.dcm', 'files/RG1_J2KI.dcm',
         'files/examples_rgb_color.dcm')


def photographs(data: pathlib.Path, folder: pathlib.Path) -> dict[str, list]:
  """Real ultrasound, dermoscopy and fundus pictures as JPEG of each side."""
  each = FILES // 3 + 1
  found = [path for name in ('busi', 'isic2017', 'fundus')
           for path in sorted((data / name / 'images').iterdir())[:each]][:FILES]
  out = {}
  for side in SIDES:
    paths = []
    for number, path in enumerate(found):
      paths.append(f'{side}-{number}.jpg')
      Image.open(path).convert('RGB').resize(
          (side, side), Image.Resampling.BICUBIC).save(
              folder / paths[-1], quality=90)
    out[f'JPEG {side}'] = paths
  return out


def encoder(root: str, folder: pathlib.Path) -> build.Encoder:
  layout = qwen2_5_vl.layout(qwen2_5_vl.CONFIGS['tiny'])
  tokenizer = text_lib.build(['Is there a lesion in the picture?'] * 20,
                             list(layout.specials.values()), 320,
                             folder / 'tokenizer')
  return build.Encoder('medrl.processors.qwen_vl', tokenizer, layout,
                       template.Prompt('', '{question}'), cache.Cache(0))


def settings(encode, record, root: str, **more) -> batching.Settings:
  need = batching.need(encode(record, root))
  return batching.Settings(
      prompts=1, buckets=(need,), pad_id=0, merge_units=4, shuffle=False,
      patch_width=build.patch_values(encode.layout),
      frames=encode.layout.temporal, **more)


def of_photographs(root: str):
  def bare(path, size):
    with Image.open(f'{root}/{path}') as image:
      return np.asarray(image.convert('RGB').resize(
          size, Image.Resampling.BICUBIC))
  return bare


def of_dicom(root: str):
  """pydicom's decode, its own value and VOI conversions, and a resize."""
  import pydicom
  from pydicom import pixels as lib
  def bare(path, size):
    dataset = pydicom.dcmread(f'{root}/{path}')
    values = dataset.pixel_array
    if values.ndim == 3:
      if 'YBR' in dataset.PhotometricInterpretation:
        values = lib.convert_color_space(
            values, dataset.PhotometricInterpretation, 'RGB')
    else:
      values = lib.apply_voi_lut(lib.apply_modality_lut(values, dataset),
                                 dataset).astype(np.float32)
      low, high = values.min(), values.max()
      values = ((values - low) * (255 / max(high - low, 1))).astype(np.uint8)
    image = Image.fromarray(values).convert('RGB')
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC))
  return bare


def turn(run, count: int) -> float:
  started = time.process_time()
  for _ in range(count):
    run()
  return (time.process_time() - started) / count


def compare(name: str, paths, root: str, bare, encode) -> float:
  """Prints and returns the ratio of CPU time over turns of all files."""
  records = [types.Record(p, 'Is there a lesion?', 'yes', 'yesno',
                          media=(types.Media(p),)) for p in paths]
  sizes = []
  for record in records:
    image = build.load(record.media[0], root)
    sizes.append(qwen_patches.smart_resize(*image.shape[:2],
                                           encode.layout)[::-1])
  largest = max((encode(r, root) for r in records), key=batching.need).record
  how = settings(encode, largest, root)
  def loader():
    for record in records:
      batching.stack([encode(record, root)], how.buckets[0], how)
  def plain():
    for path, size in zip(paths, sizes):
      bare(path, size)
  repeats = max(1, round(.2 / max(turn(plain, 1), 1e-3)))
  pairs = [(turn(loader, repeats), turn(plain, repeats)) for _ in range(TURNS)]
  ratio = statistics.median(a / b for a, b in pairs)
  ours, theirs = (statistics.median(x) / len(paths) * 1e3 for x in zip(*pairs))
  print(f'{name:>12}: loader {ours:6.2f} ms a record, bare {theirs:6.2f} ms, '
        f'ratio {ratio:.2f} (turns {min(a / b for a, b in pairs):.2f} to '
        f'{max(a / b for a, b in pairs):.2f})', flush=True)
  return ratio


def resident() -> float:
  """MiB resident in this process and its children."""
  own = os.getpid()
  total = 0
  for path in pathlib.Path('/proc').glob('[0-9]*/stat'):
    try:
      fields = path.read_text().rpartition(')')[2].split()
      if own in (int(path.parent.name), int(fields[1])):
        total += int(fields[21]) * os.sysconf('SC_PAGE_SIZE')
    except (FileNotFoundError, ProcessLookupError):
      pass
  return total / 2 ** 20


def watch(minutes: float, paths, root: str, encode) -> None:
  """Streams for a while and prints how memory moved once it was warm."""
  records = [types.Record(p, 'Is there a lesion?', 'yes', 'yesno',
                          media=(types.Media(p),)) for p in paths]
  largest = max((encode(r, root) for r in records), key=batching.need).record
  encode.cache = cache.Cache(64 << 20)
  how = settings(encode, largest, root, workers=2, on_bad='skip')
  stream = pipeline.Pipeline([mixture.Source(records, root)], encode, how)
  times, sizes = [], []
  started = last = time.monotonic()
  drawn = 0
  while time.monotonic() - started < 60 * minutes:
    next(stream)
    drawn += 1
    if time.monotonic() - last > .5:
      last = time.monotonic()
      times.append((last - started) / 60)
      sizes.append(resident())
  stream.close()
  # The first fifth fills caches and queues.
  first = len(times) // 5
  x, y = np.array(times[first:]), np.array(sizes[first:])
  slope, level = np.polyfit(x, y, 1)
  noise = np.std(y - slope * x - level)
  # Neighbours in time are alike: a slope is judged by the means of tenths.
  parts = np.array([part.mean() for part in np.array_split(y, 10)])
  places = np.array([part.mean() for part in np.array_split(x, 10)])
  fit, error = np.polyfit(places, parts, 1, cov=True)
  print(f'memory: {drawn} records in {minutes:g} min, {y.mean():.0f} MiB (+- '
        f'{noise:.1f}), slope {fit[0]:+.3f} +- {error[0, 0] ** .5:.3f} MiB a '
        f'minute')


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--data', required=True, type=pathlib.Path)
  parser.add_argument('--minutes', type=float, default=0.)
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as scratch:
    folder = pathlib.Path(scratch)
    encode = encoder(scratch, folder)
    sets = photographs(args.data, folder)
    for name, paths in sets.items():
      compare(name, paths, scratch, of_photographs(scratch), encode)
    dicom = str(args.data / 'dicom')
    compare('DICOM', DICOM, dicom, of_dicom(dicom), encode)
    if args.minutes:
      watch(args.minutes, sum(sets.values(), []), scratch, encode)


if __name__ == '__main__':
  main()
