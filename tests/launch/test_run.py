"""What launch/run.sh starts again, with a stand-in for Python."""

import os
import pathlib
import signal
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]
# Notes its arguments; then ends as the n-th word of HOW says, or waits for a
# signal, which it notes.
FAKE = '''#!/usr/bin/env bash
echo "$*" >> "$NOTES/starts"
how=($HOW)
what=${how[$(($(wc -l < "$NOTES/starts") - 1))]}
case $what in
  done) echo '{}' > "$NOTES/run/result.json"; exit 1 ;;
  wait)
    trap 'echo TERM >> "$NOTES/signals"; exit 0' TERM
    trap 'echo INT >> "$NOTES/signals"; exit 130' INT
    touch "$NOTES/ready"
    for ((i = 0; i < 6000; i++)); do sleep .1; done ;;
  *) exit "$what" ;;
esac
'''


def begin(folder, how, *flags, **options):
  (folder / 'run').mkdir(exist_ok=True)
  (folder / 'python').write_text(FAKE)
  (folder / 'python').chmod(0o755)
  return subprocess.Popen(
      ['bash', str(ROOT / 'launch/run.sh'), '--config=a b.py', '--pause=0',
       f'--workdir={folder}/run', *flags], text=True,
      stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
      env={**os.environ, 'PYTHON': str(folder / 'python'), 'HOW': how,
           'NOTES': str(folder), **options})


@pytest.mark.parametrize('how, status, starts', [
    ('0', 0, 1),                  # finished, or stopped by SIGTERM
    ('1 134 0', 0, 3),            # a crash, and an abort
    ('2 0', 2, 1),                # the config is wrong
    ('130 0', 130, 1),            # Ctrl-C
    ('1 1 1 0', 1, 3),            # too often
    ('1 done 0', 0, 2)])          # it failed once all was written
def test_what_is_started_again(tmp_path, how, status, starts):
  process = begin(tmp_path, how, '--retries=2')
  process.communicate(timeout=280)
  assert process.returncode == status
  lines = (tmp_path / 'starts').read_text().splitlines()
  assert lines == [f'-m medrl.main --config=a b.py --workdir={tmp_path}/run'
                   ] * starts


def test_a_finished_run_is_left_alone(tmp_path):
  (tmp_path / 'run').mkdir()
  (tmp_path / 'run/result.json').write_text('{}')
  _, errors = begin(tmp_path, '1').communicate(timeout=280)
  assert 'that run is finished' in errors
  assert not (tmp_path / 'starts').exists()


@pytest.mark.parametrize('number, status, noted', [
    (signal.SIGTERM, 0, 'TERM\n'), (signal.SIGINT, 130, 'INT\n')])
@pytest.mark.parametrize('to_group', [False, True])
def test_signals_are_passed_on_once(tmp_path, number, status, noted, to_group):
  process = begin(tmp_path, 'wait 0')
  deadline = time.monotonic() + 240
  while not (tmp_path / 'ready').exists():
    assert time.monotonic() < deadline and process.poll() is None
    time.sleep(.01)
  (os.killpg if to_group else os.kill)(process.pid, number)
  process.communicate(timeout=280)
  assert process.returncode == status
  assert (tmp_path / 'signals').read_text() == noted
  assert len((tmp_path / 'starts').read_text().splitlines()) == 1


def test_limits_are_numbers(tmp_path):
  process = begin(tmp_path, '0', MEDRL_RETRIES='many')
  _, errors = process.communicate(timeout=280)
  assert process.returncode == 2 and "'many' is no number" in errors
