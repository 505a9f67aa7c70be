"""Retries, budget, time limits and secrets, against a real HTTP server."""

import pickle
import time
import types

import pytest

from medrl.rewards import cache
from medrl.rewards import remote
from tests.rewards import servers


@pytest.fixture(autouse=True)
def direct(monkeypatch):
  monkeypatch.setenv('no_proxy', '127.0.0.1')


def server(url, **options):
  return remote.Server(url, **{'pause_s': .001, 'concurrency': 1} | options)


def post(asked, *bodies):
  return asked.post('chat/completions', list(bodies), lambda a: a['x'])


def scripted(*answers):
  """Gives the answers one after the other, then the last one for ever."""
  return lambda number, path, body: answers[min(number, len(answers) - 1)]


def test_posts_json_to_the_route():
  with servers.serving(lambda n, path, body: (200, {'x': body['q']})) as (
      url, seen):
    asked = server(url + '/', concurrency=4)
    assert post(asked, *[{'q': f'\ud800{i}'} for i in range(20)]) == [
        f'\ud800{i}' for i in range(20)]
    assert asked.spent == 20
  path, _, headers = seen[0]
  assert path == '/v1/chat/completions'
  assert headers['Content-Type'] == 'application/json'
  assert 'Authorization' not in headers


@pytest.mark.parametrize('answers, expected, spent', [
    ([(500, {}), (503, {}), (200, {'x': 1})], 1, 3),
    ([(429, {}, {'Retry-After': '0'}), (200, {'x': 1})], 1, 2),
    ([(200, b'{"x": '), (200, {'x': 1})], 1, 2),
    ([(200, {'y': 1}), (200, {'x': 1})], 1, 2),
    ([(200, b'[' * 100_000)], 'broken answer, at attempt 4', 4),
    ([(200, b'\xff\xfe')], 'broken answer, at attempt 4', 4),
    ([(500, {})], 'HTTP 500, at attempt 4', 4),
    ([(401, {})], 'HTTP 401, at attempt 1', 1),
    ([(400, {'error': 'patient 7'})], 'HTTP 400, at attempt 1', 1),
])
def test_retries_what_may_pass(answers, expected, spent, caplog):
  with servers.serving(scripted(*answers)) as (url, seen):
    asked = server(url)
    got, = post(asked, {'q': 'patient 7'})
  assert got == (cache.Failed(expected) if isinstance(expected, str)
                 else expected)
  assert asked.spent == len(seen) == spent
  assert 'patient' not in caplog.text


def test_a_hang_and_a_drip_are_cut_off():
  def slow(number, path, body):
    if body['q'] == 'hang':
      time.sleep(2)
    if body['q'] == 'drip':   # each byte is in time, all of them are not
      return 200, [b' '] * 60
    return 200, {'x': body['q']}

  with servers.serving(slow) as (url, _):
    asked = server(url, timeout_s=.4, retries=0, concurrency=3)
    started = time.monotonic()
    got = post(asked, *[{'q': q} for q in ('hang', 'drip', 'ok')])
    assert time.monotonic() - started < 1.5
  assert got == [cache.Failed('timed out, at attempt 1')] * 2 + ['ok']


def test_nobody_there():
  with servers.serving(None) as (url, _):
    pass
  asked = server(url, retries=1)
  assert post(asked, {}) == [cache.Failed('URLError, at attempt 2')]


def test_pauses_grow_and_are_bounded(monkeypatch):
  pauses = []
  monkeypatch.setattr(remote, 'time', types.SimpleNamespace(
      sleep=pauses.append, monotonic=time.monotonic))
  answers = [(500, {})] * 2 + [(429, {}, {'Retry-After': '7'}),
                               (429, {}, {'Retry-After': '9999'}),
                               (429, {}, {'Retry-After': 'Wed, 21 Oct'})]
  with servers.serving(scripted(*answers)) as (url, _):
    post(server(url, pause_s=.5, retries=5), {})
  assert pauses == [.5, 1.0, 7.0, 60.0, 8.0]


def test_the_budget_counts_attempts_and_holds_for_good():
  with servers.serving(scripted((500, {}), (200, {'x': 1}))) as (url, seen):
    asked = server(url, budget=3)
    spent = cache.Failed('budget of 3 attempts is spent')
    assert post(asked, {}, {}, {}) == [1, 1, spent]
    assert post(asked, {}) == [spent]
    assert len(seen) == asked.spent == 3


def test_the_budget_holds_among_threads():
  with servers.serving(scripted((200, {'x': 1}))) as (url, seen):
    asked = server(url, budget=30, concurrency=16)
    got = post(asked, *[{}] * 60)
    assert got.count(1) == len(seen) == 30


def test_the_budget_stays_in_its_process():
  with pytest.raises(TypeError, match='owns its budget'):
    pickle.dumps(server('http://127.0.0.1:1/v1'))


def test_the_key_is_sent_and_never_shown(monkeypatch, caplog):
  monkeypatch.setenv('THE_KEY', 'secret-7')
  with servers.serving(scripted((200, {'x': 1}), (403, {}))) as (url, seen):
    asked = server(url, key_env='THE_KEY')
    got = post(asked, {}, {})
  assert seen[0][2]['Authorization'] == 'Bearer secret-7'
  shown = caplog.text + repr(asked) + repr(vars(asked)) + repr(got)
  assert caplog.records and 'secret' not in shown


def test_a_redirection_gets_neither_key_nor_text(monkeypatch):
  monkeypatch.setenv('THE_KEY', 'secret-7')
  with (servers.serving(scripted((200, {'x': 1}))) as (other, stolen),
        servers.serving(scripted((307, {}, {'Location': other}))) as (url, _)):
    got = post(server(url, key_env='THE_KEY'), {'q': 'patient 7'})
  assert got == [cache.Failed('HTTP 307, at attempt 1')] and not stolen


@pytest.mark.parametrize('url, options, error', [
    ('file:///etc/passwd', {}, 'expected http'),
    ('http://a', {'key_env': 'NOT_SET_7'}, "'NOT_SET_7'.*is not set"),
    ('http://a', {'timeout_s': 0}, 'timeout_s 0'),
    ('http://a', {'concurrency': 0}, 'concurrency 0'),
    ('http://a', {'budget': -1}, 'budget -1'),
])
def test_wrong_arguments(url, options, error):
  with pytest.raises(ValueError, match=error):
    remote.Server(url, **options)
