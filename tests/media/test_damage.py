"""Some 800 damaged and hostile files: each is refused in words, or shown.

None may end the process, hang, take much memory, run code, or open a file
outside the root: the kernel (inotify) tells of any that is opened there.
"""

import collections
import ctypes
import json
import os
import pathlib
import struct
import subprocess
import sys

import pytest

from tests.media import damage
from tests.media import hostile

for _package in ('av', 'nibabel', 'pydicom', 'tensorstore', 'wfdb'):
  pytest.importorskip(_package)

ROOT = pathlib.Path(__file__).parents[2]
DATA = ROOT.parent / 'shared' / 'data'
PEAK_BYTES = 1 << 30
OPENED = 0x20   # IN_OPEN of inotify(7)


class Watch:
  """Names of the files that are opened in folders, by any process."""

  def __init__(self, folders):
    library = ctypes.CDLL(None, use_errno=True)
    self.handle = library.inotify_init1(os.O_NONBLOCK)
    if self.handle < 0:
      pytest.skip('no inotify here')
    for folder in folders:
      assert library.inotify_add_watch(
          self.handle, os.fsencode(folder), OPENED) >= 0

  def opened(self) -> list[str]:
    try:
      events = os.read(self.handle, 1 << 20)
    except BlockingIOError:
      return []
    names, at = [], 0
    while at < len(events):
      size, = struct.unpack_from('I', events, at + 12)
      names.append(events[at + 16:at + 16 + size].rstrip(b'\0').decode())
      at += 16 + size
    return names


def run(cases, folder, root) -> list[dict]:
  """What the child says of each; one whose reader ended it says so."""
  results, left = [], list(cases)
  while left:
    listed = folder / 'cases.json'
    listed.write_text(json.dumps([(c.path, c.options) for c in left]))
    child = subprocess.run(
        [sys.executable, '-m', 'tests.media.damage_child', listed, root],
        cwd=ROOT, capture_output=True, text=True, timeout=500)
    said = [json.loads(line) for line in child.stdout.splitlines()
            if line.startswith('{')]
    results += said
    left = left[len(said):]
    if left:
      results.append({'result': ['ended', f'the process ended with code '
                                 f'{child.returncode}: {child.stderr[-300:]}',
                                 False], 'seconds': 0, 'peak': 0})
      left = left[1:]
  return results


def fault(case, result) -> str:
  """What is wrong with a result; '' if nothing is."""
  kind, words, *clear = result['result']
  if kind == 'shown':
    if not words:
      return 'shows what no loader returns'
    return f'shows {words}' if case.want == 'error' else ''
  # No size that a file claims is asked of the memory.
  if not clear[0] or 'Unable to allocate' in words:
    return f'{kind}: {words}'
  if case.want == 'good':
    return f'is refused: {words}'
  if len(words) < 15:
    return f'is refused without a reason: {words!r}'
  return f'takes {result["seconds"]} s' if result['seconds'] > 10 else ''


@pytest.fixture(scope='module')
def place(tmp_path_factory):
  if not DATA.exists():
    pytest.skip('no ../shared/data beside the repository')
  base = tmp_path_factory.mktemp('damage')
  for name in ('root', 'outside'):
    (base / name).mkdir()
  return base


def check(cases, place, least: int):
  assert len(cases) >= least
  assert len({(c.path, str(c.options)) for c in cases}) == len(cases)
  watch = Watch([place / 'outside', *(
      p for p in (place / 'outside').rglob('*') if p.is_dir())])
  results = run(cases, place, place / 'root')
  faults = [f'{case.path}: {wrong}' for case, result in zip(
      cases, results, strict=True) if (wrong := fault(case, result))]
  reasons = collections.Counter(r['result'][0] for r in results)
  peak = max(r['peak'] for r in results)
  highest = next(c.path for c, r in zip(cases, results) if r['peak'] == peak)
  print(f'{len(cases)} files: {dict(reasons)}; at most '
        f'{max(r["seconds"] for r in results)} s and {peak >> 20} MiB, from '
        f'{highest} on')
  assert not faults, '\n'.join(faults)
  assert not watch.opened(), 'a file outside the root was opened'
  assert peak < PEAK_BYTES, f'{highest} takes {peak >> 20} MiB'
  assert not (place / 'canary').exists(), 'code of a file was run'


def test_damaged_files(place):
  check(damage.of_each_kind(place / 'root', damage.sources(DATA)), place, 600)


def test_bombs(place):
  root = place / 'root'
  check([*hostile.pictures(root), *hostile.volumes(root),
         *hostile.arrays(root, place / 'canary'), *hostile.dicoms(root, DATA)],
        place, 60)


def test_ways_out_of_the_root(place):
  root, outside = place / 'root', place / 'outside'
  check([*hostile.zarrs(root, outside), *hostile.ecgs(root, DATA, outside),
         *hostile.films(root, outside), *hostile.paths(root, DATA, outside)],
        place, 80)


def test_the_watch_sees_what_is_opened(tmp_path):
  (tmp_path / 'a').write_bytes(b'a')
  watch = Watch([tmp_path])
  assert not watch.opened()
  subprocess.run([sys.executable, '-c', f'open({str(tmp_path / "a")!r})'],
                 check=True)
  assert watch.opened() == ['a']


def test_the_canary_sings(tmp_path):
  import pickle
  pickle.loads(pickle.dumps(hostile.Canary(tmp_path / 'canary'))).close()
  assert (tmp_path / 'canary').exists()
