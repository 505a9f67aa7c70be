"""Whole sweeps with a stand-in for the trainer, and one with the real one."""

import contextlib
import csv
import html.parser
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time

import pytest

from launch import sweep
from launch import sweep_page
from launch import sweep_read
from launch import sweep_report
from launch import sweep_run
from tests import conftest
from tests.launch import sweep_study

STUDY = str(pathlib.Path(sweep_study.__file__))
STAND_IN = (sys.executable, STUDY)
GRID = ('--grid=reward.format.weight=0,0.5,1', '--grid=rl.clip_high=0.2,0.28',
        '--seeds=2')
TABLES = ('table.csv', 'table.json', 'table.html')


def run(workdir, *flags, starter=sweep_study.here):
  return sweep.main([f'--config={STUDY}', f'--workdir={workdir}', *flags],
                    STAND_IN, starter)


def tables(workdir):
  return [(pathlib.Path(workdir) / name).read_bytes() for name in TABLES]


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """Folder of a sweep that nothing interrupts."""
  folder = tmp_path_factory.mktemp('sweeps') / 'whole'
  assert run(folder, *GRID) == 0
  return folder


def test_table_longhand(whole):
  found = json.loads((whole / 'table.json').read_text())
  assert found['metric'] == sweep_study.METRIC
  assert found['keys'] == ['rewards.format.weight', 'rl.clip_high']
  rows = found['rows']
  assert [tuple(r['values'].values()) for r in rows] == [
      (w, c) for w in (0., .5, 1.) for c in (.2, .28)]
  assert {r['status'] for r in rows} == {'finished'}
  # Weight 0.5 at 0.2: 0.52 and 0.535; the baseline has 0.02 and 0.03.
  row = rows[2]
  assert [r['value'] for r in row['runs'].values()] == pytest.approx(
      [.52, .535])
  # Student's factor for two seeds is 12.7062.
  half = 12.7062 * .0075
  assert [row[k] for k in ('mean', 'low', 'high')] == pytest.approx(
      [.5275, .5275 - half, .5275 + half], rel=1e-5)
  half = 12.7062 * .0025
  assert [row[k] for k in ('difference', 'difference_low', 'difference_high')
          ] == pytest.approx([.5025, .5025 - half, .5025 + half], rel=1e-5)
  assert row['pairs'] == 2 and row['verdict'] == 'better'
  assert rows[0]['verdict'] == 'baseline' and rows[0]['difference'] is None
  # 0.008 more for both seeds.
  assert rows[1]['difference'] == pytest.approx(.008)
  assert rows[1]['verdict'] == 'equivalent'


def test_csv_is_the_same_table(whole):
  with open(whole / 'table.csv', newline='', encoding='utf-8') as file:
    lines = list(csv.DictReader(file))
  rows = json.loads((whole / 'table.json').read_text())['rows']
  assert [line['point'] for line in lines] == [row['point'] for row in rows]
  for line, row in zip(lines, rows):
    assert float(line['rl.clip_high']) == row['values']['rl.clip_high']
    assert float(line['high']) == row['high']   # in full
    assert line['verdict'] == row['verdict']


@pytest.mark.parametrize('flags, row, verdict', [
    (['--rope=0.005'], 1, 'better'),
    (['--rope=0.005', '--minimise'], 1, 'worse'),
    (['--baseline=weight=0.5,rl.clip_high=0.2-'], 0, 'worse'),
    (['--metric=accuracy_after_rl'], 5, 'better'),   # of result.json
    (['--metric=reward/none'], 5, ''),
])
def test_report_from_the_folder_alone(whole, flags, row, verdict, capsys):
  before = tables(whole)
  assert sweep.main([f'--workdir={whole}', '--report', *flags]) == 0
  found = json.loads((whole / 'table.json').read_text())
  assert found['rows'][row]['verdict'] == verdict
  assert '| format.weight ' in capsys.readouterr().out
  sweep_report.main([f'--workdir={whole}'])
  assert tables(whole) == before


@pytest.mark.parametrize('flags, says', [
    (['--report', '--baseline=weight=0.5'], 'fits 2 points'),
    (['--report', '--rope=-1'], 'cannot be negative'),
    (['--grid=rl.clip_high=0.2', '--seeds=2'], 'points that this sweep lacks'),
    ([*GRID, '--set=rl.epochs=2'], 'another sweep: its fixed'),
    (['--trials=3'], 'needs what to search'),
    (['--trials=3', '--seeds=2', '--random=rl.clip_high=1,2'], 'one seed'),
    (['--parallel=0'], 'at least 1'),
    (['--rope=-1'], 'cannot be negative'),
    (['--metric=reward/totl'], "did you mean 'reward/total'"),
    ([*GRID, '--baseline=none'], 'fits 0 points'),
    (['--', '--config.rl.steps=1'], 'use --set'),
])
def test_what_is_refused_is_told_in_a_line(whole, flags, says):
  with pytest.raises(SystemExit, match=says):
    run(whole, *flags)


def test_not_a_sweep(tmp_path):
  with pytest.raises(SystemExit, match='not the --workdir of a sweep'):
    sweep.main([f'--workdir={tmp_path}', '--report'])


def test_shards_make_the_same_table(whole, tmp_path):
  for share in ('1/2', '0/2'):
    assert run(tmp_path / 's', *GRID, f'--shard={share}') == 0
    rows = json.loads((tmp_path / 's/table.json').read_text())['rows']
    missing = [r['status'] for r in rows if 'missing' in r['status']]
    assert len(missing) == (6 if share == '1/2' else 0)
  assert tables(tmp_path / 's') == tables(whole)


def test_more_values_and_seeds_extend(tmp_path):
  started = []
  def start(job, lock):
    started.append(job.folder)
    return sweep_study.here(job, lock)
  few = ['--grid=reward.format.weight=0,0.5', '--seeds=1']
  assert run(tmp_path / 's', *few, starter=start) == 0
  more = ['--grid=reward.format.weight=0,0.5,1', '--seeds=2']
  assert run(tmp_path / 's', *more, starter=start) == 0
  assert len(started) == len(set(started)) == 6


def test_a_point_that_fails_does_not_end_the_sweep(tmp_path):
  flags = (f'--grid=reward.format.weight=0,{sweep_study.FAILS},1',)
  assert run(tmp_path / 's', *flags, starter=sweep_run.start) == 1
  rows = json.loads((tmp_path / 's/table.json').read_text())['rows']
  assert [row['status'] for row in rows] == ['finished', 'failed', 'finished']
  assert rows[1]['mean'] is None and rows[1]['verdict'] == ''
  (note,) = (tmp_path / 's').glob('*/seed0.failed')
  found = json.loads(note.read_text())
  assert found['exit'] == 1
  for path in (note, note.with_suffix('.log')):   # may quote a record
    assert path.stat().st_mode & 0o777 == 0o600
  assert found['last_lines'][-1] == 'ValueError: this weight is refused'


def test_only_finished_runs_with_a_number_count(tmp_path):
  def start(job, lock):
    process = sweep_study.here(job, lock)
    log = job.folder / 'metrics.jsonl'
    if job.folder.name == 'seed0':   # stopped before its end
      (job.folder / 'result.json').unlink()
    if job.folder.name == 'seed1':
      log.write_text(f'{{"step": 4, "{sweep_study.METRIC}": "nan"}}\n')
    return process
  flags = ('--grid=reward.format.weight=0,1', '--seeds=4')
  assert run(tmp_path / 's', *flags, starter=start) == 1
  row = json.loads((tmp_path / 's/table.json').read_text())['rows'][1]
  assert row['status'] == '3 finished, 1 stopped'
  assert [r['value'] for r in row['runs'].values()] == [
      None, None, pytest.approx(1.04), pytest.approx(1.06)]
  assert (row['seeds'], row['pairs']) == (2, 2)
  assert row['mean'] == pytest.approx(1.05)


def test_points_of_the_study_with_what_else_differs(tmp_path):
  def start(job, lock):
    process = sweep_study.here(job, lock)
    # As a recipe's words, which the run lays itself.
    config = sweep_read.read_json(job.folder / 'config.json')
    config['rl.surrogate'] = f'of weight {config["rewards.format.weight"]}'
    sweep_read.write_json(job.folder / 'config.json', config)
    return process
  assert run(tmp_path / 's', '--list', '--set=rl.epochs=2', starter=start) == 0
  found = json.loads((tmp_path / 's/table.json').read_text())
  assert found['keys'] == ['data.buckets', 'rewards.format.weight',
                           'rl.clip_high', 'rl.surrogate']
  assert found['rows'][1]['values'] == {
      'data.buckets': [[64, 64]], 'rewards.format.weight': .5,
      'rl.clip_high': .28, 'rl.surrogate': 'of weight 0.5'}


def test_dry_run_lists_commands_and_writes_nothing(tmp_path, capsys):
  assert run(tmp_path / 's', *GRID, '--dry_run', '--', '--accelerator=cpu') == 0
  lines = capsys.readouterr().out.splitlines()
  assert lines[::2] == ['# missing'] * 12
  command = shlex.split(lines[1])
  assert command[:3] == [*STAND_IN, f'--config={STUDY}']
  assert command[-2:] == ['--config.seed=0', '--accelerator=cpu']
  assert not (tmp_path / 's').exists()


class Page(html.parser.HTMLParser):
  """Collects texts and attributes; fails where tags do not match."""

  def __init__(self):
    super().__init__()
    self.open, self.texts, self.attributes, self.tags = [], [], [], set()

  def handle_starttag(self, tag, attrs):
    self.tags.add(tag)
    self.attributes += attrs
    if tag not in ('meta',):
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.tags.add(tag)
    self.attributes += attrs

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.texts.append(data)


def test_page_is_whole_self_contained_and_escaped(whole):
  found = json.loads((whole / 'table.json').read_text())
  nasty = '<script>alert("1")</script>&'
  found['keys'].append(nasty)
  for row in found['rows']:
    row['values'][nasty] = nasty
  page = Page()
  text = sweep_page.page(found)
  page.feed(text)
  assert not page.open
  assert not page.tags & {'script', 'link', 'img', 'iframe', 'object'}
  assert not {name for name, _ in page.attributes} & {'src', 'href', 'style'}
  assert 'url(' not in text and '@import' not in text
  assert page.texts.count(nasty) == 1 + len(found['rows'])
  for row in found['rows']:
    assert sweep_page.number(row['mean']) in page.texts
    assert row['verdict'] in page.texts
  assert 'prefers-color-scheme: dark' in text


def test_no_accelerator_is_started():
  code = ('import sys\nfrom launch import sweep, collect, sweep_report\n'
          'found = {"jax", "torch", "optuna"} & set(sys.modules)\n'
          'assert not found, found')
  subprocess.run([sys.executable, '-c', code], check=True, cwd=sweep_run.ROOT)


@contextlib.contextmanager
def processes():
  """Yields what starts the sweep's command in a process of its own; none, nor
  its runs, is left at the end."""
  started = []
  def begin(folder, flags, *, program, config=STUDY, **environment):
    code = ('import sys\nfrom launch import sweep\n'
            f'sys.exit(sweep.main(sys.argv[1:], {list(program)!r}))')
    started.append(subprocess.Popen(
        [sys.executable, '-c', code, f'--config={config}',
         f'--workdir={folder}', *flags], cwd=sweep_run.ROOT,
        env={**os.environ, **environment}, stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL))
    return started[-1]
  try:
    yield begin
  finally:
    for one in started:
      one.kill()
      one.wait()


def wait_for(condition, process):
  deadline = time.monotonic() + 1500
  while not condition():
    assert process.poll() is None and time.monotonic() < deadline
    time.sleep(.05)


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
def test_killed_and_started_again(tmp_path, number):
  flags = ('--grid=reward.format.weight=0,1', '--seeds=2', '--parallel=2')
  assert run(tmp_path / 'whole', *flags) == 0
  folder = tmp_path / 's'
  with processes() as begin:
    # Long enough that the runs under way are met within their steps.
    one = begin(folder, flags, program=STAND_IN, SWEEP_HOLD_S='1')
    wait_for(lambda: len(list(folder.glob('*/seed*/metrics.jsonl'))) >= 2, one)
    one.send_signal(number)
    assert one.wait() == (143 if number == signal.SIGTERM else -number)
    assert not list(folder.glob('*/seed*/result.json'))
    assert begin(folder, flags, program=STAND_IN).wait() == 0
  assert tables(folder) == tables(tmp_path / 'whole')


# The real trainer, toy size.
REAL = dict(program=sweep.PROGRAM, config=f'{STUDY}:tiny',
            JAX_PLATFORMS='cpu', XLA_FLAGS=conftest.QUICK)
# What is learned from is different at each weight, so that its last value
# tells runs apart in all its digits.
REAL_FLAGS = ('--metric=reward/total',)


@pytest.mark.slow
def test_reward_weights_on_phantoms_killed_and_sharded(tmp_path):
  whole, killed, shared = (tmp_path / n for n in ('whole', 'killed', 'shared'))
  with processes() as begin:
    def real(folder, *flags):
      return begin(folder, (*GRID, *REAL_FLAGS, *flags), **REAL)
    assert real(whole).wait() == 0
    found = json.loads((whole / 'table.json').read_text())
    print(sweep_report.text(found))
    assert {row['status'] for row in found['rows']} == {'finished'}
    assert all(row['seeds'] == 2 for row in found['rows'])
    first = real(killed)
    wait_for(lambda: len(list(killed.glob('*/seed*/result.json'))) == 5 and
             len(list(killed.glob('*/seed*/metrics.jsonl'))) == 6, first)
    first.kill()
    first.wait()
    done = {path: path.stat().st_mtime_ns
            for path in killed.glob('*/seed*/result.json')}
    print(f'killed with {len(done)} of 12 runs finished')
    assert real(killed).wait() == 0
    assert tables(killed) == tables(whole)
    for path, before in done.items():
      assert path.stat().st_mtime_ns == before   # not run again
    both = [real(shared, f'--shard={i}/2') for i in range(2)]
    assert [one.wait() for one in both] == [0, 0]
  sweep_report.main([f'--workdir={shared}', *REAL_FLAGS])
  assert tables(shared) == tables(whole)
