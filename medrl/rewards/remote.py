"""Asks an OpenAI-compatible HTTP server, with retries and within a budget.

What is asked and what an answer means is not known here. Nothing that is sent,
received or secret is ever logged or told in an error.
"""

from collections.abc import Callable, Mapping
import concurrent.futures
import http.client
import json
import logging
import os
import threading
import time
from typing import Any
import urllib.error
import urllib.request

from medrl.rewards import cache

# An answer beyond it is none; it would only fill the memory.
MAX_BYTES = 64 * 2**20
MAX_PAUSE_S = 60.0
_log = logging.getLogger(__name__)


class Server:
  """A server and what may still be asked of it.

  The budget is this object's, and it cannot be sent to another process: build
  it once, in the process that scores. `spent` counts attempts.
  """

  def __init__(self, url: str, *, key_env: str = '', timeout_s: float = 60.0,
               retries: int = 3, pause_s: float = 1.0, budget: int = 10_000,
               concurrency: int = 8):
    """Checks what it is given; connects to nothing.

    Args:
      url: up to and with the version, as in 'http://localhost:8000/v1'.
      key_env: environment variable that holds the key; '' sends none.
      timeout_s: of an attempt, until the last byte.
      retries: further attempts after a failure that may pass: no or a broken
        answer, a time-out, HTTP 408, 429 and 5xx.
      pause_s: before the first of them; doubled each time, or as long as the
        server asks for, up to a minute.
      budget: attempts in all, over the life of this object.
      concurrency: attempts at a time.

    Raises:
      ValueError: a value does not fit, or the variable is not set.
    """
    if not url.startswith(('http://', 'https://')):
      raise ValueError(f'url {url!r}: expected http://... or https://...')
    if not (timeout_s > 0 and retries >= 0 and pause_s >= 0 and budget >= 0
            and concurrency >= 1):
      raise ValueError(
          f'timeout_s {timeout_s!r} must be above 0; retries {retries!r}, '
          f'pause_s {pause_s!r} and budget {budget!r} at least 0; concurrency '
          f'{concurrency!r} at least 1')
    if key_env and key_env not in os.environ:
      raise ValueError(f'the environment variable {key_env!r}, which should '
                       'hold the key of the server, is not set')
    self._url, self._key_env = url.rstrip('/'), key_env
    self._timeout, self._retries, self._pause = timeout_s, retries, pause_s
    self._budget, self._concurrency = budget, concurrency
    self._lock = threading.Lock()
    self._told: set[str] = set()
    # A redirection would take the key and the text to another server.
    self._opener = urllib.request.build_opener(_NoRedirection)
    self.spent = 0

  def __reduce__(self):
    raise TypeError('a Server stays in its process, which owns its budget; '
                    'score what needs it there, not in a worker')

  def post(self, route: str, bodies: list[Mapping[str, Any]],
           read: Callable[[Any], Any]) -> list[Any]:
    """Posts each body to `url/route`, several at a time.

    Args:
      route: such as 'chat/completions'.
      bodies: JSON values.
      read: JSON answer -> result; one that it raises LookupError, TypeError or
        ValueError on is a broken answer.

    Returns:
      a result or `cache.Failed` with the cause for each body, in their order.
    """
    if not bodies:
      return []
    with concurrent.futures.ThreadPoolExecutor(
        min(self._concurrency, len(bodies))) as threads:
      return list(threads.map(lambda body: self._ask(route, body, read),
                              bodies))

  def _ask(self, route: str, body: Mapping[str, Any], read) -> Any:
    data = json.dumps(body).encode('ascii')
    why = ''
    for attempt in range(self._retries + 1):
      if not self._pay():
        return self._failed(f'budget of {self._budget} attempts is spent')
      pause = self._pause * 2 ** attempt
      try:
        return read(json.loads(self._send(route, data)))
      except urllib.error.HTTPError as error:
        error.close()
        why = f'HTTP {error.code}'
        if error.code not in (408, 429) and error.code < 500:
          break
        wanted = error.headers.get('Retry-After', '')
        pause = max(pause, float(wanted) if wanted.isdecimal() else 0.0)
      except (OSError, http.client.HTTPException) as error:
        # urllib wraps a time-out while connecting, and no other.
        why = 'timed out' if isinstance(error, TimeoutError) or isinstance(
            getattr(error, 'reason', None), TimeoutError) else (
                type(error).__name__)
      except (LookupError, TypeError, ValueError, RecursionError):
        why = 'broken answer'
      if attempt < self._retries:
        time.sleep(min(pause, MAX_PAUSE_S))
    return self._failed(f'{why}, at attempt {attempt + 1}')

  def _pay(self) -> bool:
    with self._lock:
      if self.spent >= self._budget:
        return False
      self.spent += 1
      return True

  def _send(self, route: str, data: bytes) -> bytes:
    headers = {'Content-Type': 'application/json'}
    if self._key_env:
      headers['Authorization'] = f'Bearer {os.environ[self._key_env]}'
    until = time.monotonic() + self._timeout
    request = urllib.request.Request(f'{self._url}/{route}', data, headers)
    out = b''
    with self._opener.open(request, timeout=self._timeout) as response:
      while part := response.read1(2**16):
        out += part
        if time.monotonic() > until:   # the socket's own limit is of a read
          raise TimeoutError
        if len(out) > MAX_BYTES:
          raise ValueError('too long')
    return out

  def _failed(self, reason: str) -> cache.Failed:
    with self._lock:
      new = reason not in self._told
      self._told.add(reason)
    if new:
      _log.warning('a server gave no answer: %s; counted from now on', reason)
    return cache.Failed(reason)


class _NoRedirection(urllib.request.HTTPRedirectHandler):

  def redirect_request(self, *arguments, **options):
    del arguments, options
