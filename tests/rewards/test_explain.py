"""What a person is told about a reward, and about a mistake in asking."""

import io
import os
import pathlib
import subprocess
import sys

import pytest

from medrl import types
from medrl.rewards import explain
from medrl.rewards import lift

ROOT = pathlib.Path(__file__).parents[2]
RECORD = types.Record(id='r', question='q', answer='yes', answer_type='yesno')
NEWLINE = '<think>a\nb</think><answer>Yes, \u80ba \ud800</answer>'

CONFIG = '''
import ml_collections


def get_config(arg='x'):
  c = ml_collections.ConfigDict()
  c.rewards = dict(
      answer=dict(fn='medrl.rewards.answer.score', weight=2.0),
      format=dict(fn='medrl.rewards.format.tags', weight=0.5,
                  options=dict(think=arg == 'think')),
      unused=dict(fn='medrl.rewards.format.tags', weight=0.0))
  c.judges = dict(default=dict(fn='medrl.rewards.judge.local',
                               options=dict(path='builtins.list')))
  return c
'''


@lift.declare(needs=('token_logps',))
def needy(record, completions, context):
  return types.Score(tuple(c.signals['token_logps'] for c in completions))


@lift.declare(label_free=True)
def peeking(record, completions, context):
  return types.Score((float(record.answer is None),) * len(completions))


def sections(record, completions, context):
  size = len(completions)
  return types.Score(
      (0.5,) * size, parts={'depth': (3.0,) * size}, parsed=(False,) * size,
      valid=(False,) * size, spans=(((0, 7, -1.0),),) * size)


def told(fn, *texts, weight=1.0):
  terms = {'term': {'fn': fn if '.' in fn else f'{__name__}.{fn}',
                    'weight': weight}}
  return list(explain.explain(terms, RECORD,
                              [types.Completion(t) for t in texts], {}))


def test_value_reading_and_span():
  lines = told('medrl.rewards.answer.score', NEWLINE, 'yes', weight=2)
  assert lines[0].startswith('completion 1 of 2: 43 characters, finish stop')
  assert "read as 'yes' (yesno, leading) at 26..29" in lines[1]
  assert lines[1].endswith(': <think>a\\nb</think><answer>[[Yes]], \u80ba '
                           '\\ud800</answer>')
  assert lines[2] == "  right answer 'yes'"
  assert lines[3] == ('  term: weight 2, medrl.rewards.answer.score: value 1, '
                      'adds 2')
  assert lines[4] == '  total 2'
  assert lines[6] == '  read as nothing: no closed answer block'
  assert lines[8].endswith('value 0, adds 0, unparsed')
  assert lines[9] == '  total 0, unparsed'


LONG = 'x' * 100


@pytest.mark.parametrize('text, reading', [
    ('blue', 'nothing: no yesno answer in 8..12: <answer>[[blue]]</answer>'),
    ("I don't know",
     "an abstention in 8..20: <answer>[[I don't know]]</answer>"),
    (LONG, (f'nothing: no yesno answer in 8..108: <answer>[[{LONG[:30]} ... '
            f'{LONG[:30]}]]</answer>')),
])
def test_what_is_not_an_answer(text, reading):
  lines = told('medrl.rewards.answer.score', f'<answer>{text}</answer>')
  assert lines[1] == f'  read as {reading}'


def test_parts_credit_and_flags():
  lines = told('sections', 'a long text')
  assert lines[-4].endswith('value 0.5, adds 0.5, unparsed, invalid')
  assert lines[-3:] == ['    part depth: 3',
                        '    credit -1 at 0..7: [[a long ]]text',
                        '  total 0.5, unparsed, invalid: to be left out']


def test_failures_are_told_in_full_to_the_one_who_asked():
  lines = told('needy', 'x')
  assert lines[-2].endswith("needy: raised KeyError: 'token_logps'")
  assert lines[-1] == '  total 0, invalid: to be left out'


def test_a_label_free_term_is_blind_here_too():
  assert told('peeking', 'x')[-1] == '  total 1'


def run(capsys, monkeypatch, text, *arguments):
  monkeypatch.setattr(sys, 'stdin', io.StringIO(text))
  try:
    explain.main(arguments)
  except SystemExit as stop:
    assert stop.code == 2
  return capsys.readouterr()


@pytest.fixture
def config(tmp_path):
  path = tmp_path / 'study.py'
  path.write_text(CONFIG)
  return str(path)


def test_a_config_with_a_record_file(capsys, monkeypatch, tmp_path, config):
  (tmp_path / 'r.json').write_text(
      '{"question": "?", "answer": "yes", "answer_type": "yesno", '
      '"images": ["a.png"]}')
  out, _ = run(capsys, monkeypatch, '<answer>yes</answer>\n---\nno\n',
               '--config', config, '--record', str(tmp_path / 'r.json'))
  lines = out.splitlines()
  assert lines[0] == 'completion 1 of 2: 20 characters, finish stop'
  assert ('  format: weight 0.5, medrl.rewards.format.tags: value 1, adds 0.5'
          in lines)
  assert '  unused: weight 0, medrl.rewards.format.tags: not run' in lines
  assert '  total 2.5' in lines
  assert lines[7] == 'completion 2 of 2: 2 characters, finish stop'


def test_one_term_its_argument_and_options(capsys, monkeypatch, config):
  text = '<answer>yes</answer>'
  for more, value in [([], 1), (['--options', '{"think": true}'], 0)]:
    out, _ = run(capsys, monkeypatch, text, '--config', config, '--reward',
                 'format', *more)
    assert f'value {value}, adds {value / 2:.4g}' in out
    assert 'answer:' not in out
  out, _ = run(capsys, monkeypatch, text, '--config', f'{config}:think',
               '--reward', 'format')
  assert 'value 0,' in out


def test_judges_of_a_config(config):
  context = explain.make_context(explain.read_config(config))
  assert context['judges']['default'](['p']) == ['p']


@pytest.mark.parametrize('arguments, error', [
    ([], 'no reward: give --reward'),
    (['--reward', 'medrl.rewards.answer.scor'], "did you mean 'score'"),
    (['--reward', 'forma', '--config', 'CONFIG'], "did you mean 'format'"),
    (['--options', '{"a": 1}', '--config', 'CONFIG'], 'for 3 terms'),
    (['--config', 'nowhere.py'], "no config 'nowhere.py'"),
    (['--reward', 'medrl.rewards.format.tags', '--record', '{"qestion": 1}'],
     "did you mean 'question'"),
    (['--reward', 'medrl.rewards.format.tags', '--record', '{"question": 1'],
     'Expecting'),
    (['--reward', 'medrl.rewards.format.tags', '--record', 'nowhere.json'],
     'nowhere.json'),
])
def test_mistakes_end_in_one_line(capsys, monkeypatch, config, arguments,
                                  error):
  arguments = [config if a == 'CONFIG' else a for a in arguments]
  out, err = run(capsys, monkeypatch, 'x', *arguments)
  assert out == '' and error in err and len(err.splitlines()) == 1


def test_the_command_reads_a_pipe_and_loads_no_jax():
  code = ('import runpy, sys\n'
          'sys.argv[1:] = ["--reward", "medrl.rewards.format.tags"]\n'
          'runpy.run_module("medrl.rewards.explain", run_name="__main__")\n'
          'assert "jax" not in sys.modules')
  done = subprocess.run(
      [sys.executable, '-c', code], input='\u80ba', text=True, check=True,
      capture_output=True, cwd=ROOT, env={**os.environ, 'PYTHONUTF8': '1'})
  assert 'completion 1 of 1: 1 characters' in done.stdout
