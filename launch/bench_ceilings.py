"""What this machine can do at most, and how it is timed.

Ceilings are measured in the run that they are compared with: the largest
matrix product, the product of the model's own head, a large copy; and how rates
fall with size, for `roofline`. No model is here.
"""

from collections.abc import Callable, Iterator
import contextlib
import resource
import statistics
import sys
import time

import jax
import jax.numpy as jnp

from launch import roofline

SIDES = {'cpu': (1024, 2048, 4096), 'gpu': (4096, 8192, 16384)}
COPIED = {'cpu': 2 ** 28, 'gpu': 2 ** 31}   # bytes, far beyond any cache
# What curves are measured at: rows of products, bytes of arrays that are passed
# over in place, and of those that are copied.
ROWS = {'cpu': (2, 8, 32, 128, 512, 2048), 'gpu': (32, 128, 512, 2048, 8192)}
BYTES = tuple(2 ** power for power in (16, 18, 20, 22, 24))
COPIES = {'cpu': (2 ** 26, 2 ** 28), 'gpu': (2 ** 28, 2 ** 31)}
_TURNS = 8   # of a measured loop at least: its argument is copied once
_COMPILED = '/jax/core/compile/backend_compile_duration'


def timed(call: Callable, repeats: int) -> dict[str, float]:
  """Best and median seconds of `call()`, waiting for what it returns.

  One run goes before those that count.
  """
  spent = []
  for _ in range(repeats + 1):
    begun = time.perf_counter()
    jax.block_until_ready(call())
    spent.append(time.perf_counter() - begun)
  return {'best_s': min(spent[1:]), 'median_s': statistics.median(spent[1:])}


def product(rows: int, inner: int, columns: int, dtype, repeats: int) -> float:
  """FLOP/s of [rows, inner] x [columns, inner]^T, best of `repeats`."""
  key = jax.random.key(0)
  make = jax.jit(lambda: (
      jax.random.normal(key, (rows, inner), dtype),
      jax.random.normal(key, (columns, inner), dtype)))
  left, right = make()
  # Transposed as the tied embedding is where it is the head.
  multiply = jax.jit(lambda a, b: a @ b.T)
  best = timed(lambda: multiply(left, right), repeats)['best_s']
  return 2 * rows * inner * columns / best


def copy_rate(size: int, repeats: int) -> float:
  """Bytes a second, read and written, of one pass over `size` bytes."""
  x = jnp.zeros(size // 4, jnp.float32)
  add = jax.jit(lambda x: x + 1)
  best = timed(lambda: add(x), repeats)['best_s']
  return 2 * size / best


def looped(body: Callable, state, turns: int, repeats: int) -> float:
  """Seconds of a turn of a loop on the device, best of `repeats`."""
  run = jax.jit(lambda x: jax.lax.fori_loop(0, turns, lambda _, x: body(x), x))
  return timed(lambda: run(state), repeats)['best_s'] / turns


def curves(dtype, repeats: int) -> roofline.Curves:
  """How fast products of few rows and passes over small arrays are.

  Products are of [rows, side] and a matrix that stays in the cache. Arrays that
  may stay in one are added to in place; larger ones are copied, as the memory
  for what a program makes has to be had anew at each call.
  """
  products, moves = {}, {}
  for rows in ROWS[jax.default_backend()]:
    side = max(rows, 1024)
    weight = jnp.full((side, side), 1 / side, dtype)
    turns = max(1, 2 ** 29 // (rows * side * side))
    spent = looped(lambda x: x @ weight, jnp.ones((rows, side), dtype), turns,
                   repeats)
    products[rows] = 2 * rows * side * side / spent
  for size in BYTES:
    spent = looped(lambda x: x + 1, jnp.zeros(size // 4),
                   max(_TURNS, 2 ** 26 // size), repeats)
    moves[size] = 2 * size / spent
  for size in COPIES[jax.default_backend()]:
    moves[size] = copy_rate(size, repeats)
  return roofline.Curves(products, moves)


def better(first: roofline.Curves, second: roofline.Curves) -> roofline.Curves:
  """The larger rate at each size, as a machine's rate wanders."""
  return roofline.Curves(*(
      {size: max(rate, other[size]) for size, rate in one.items()}
      for one, other in ((first.products, second.products),
                         (first.moves, second.moves))))


def measure(head: tuple[int, int, int], dtype, repeats: int
            ) -> dict[str, float]:
  """The ceilings of this machine.

  Args:
    head: (rows, hidden, vocabulary) of the model's head in a step.
    dtype: compute dtype.
    repeats: of each measurement.

  Returns:
    matrix_flops: FLOP/s of the largest square product of a few sizes.
    head_flops: FLOP/s at the head's own shape.
    copy_bytes: bytes/s of a large copy, read and written.
  """
  platform = jax.default_backend()
  rates = [product(side, side, side, dtype, repeats)
           for side in SIDES[platform]]
  return {'matrix_flops': max(rates),
          'head_flops': product(*head, dtype, repeats),
          'copy_bytes': copy_rate(COPIED[platform], repeats)}


@contextlib.contextmanager
def compiles() -> Iterator[list[float]]:
  """Yields a list that gets the seconds of each compile while it is open."""
  seconds = []

  def note(event: str, duration: float, **more):
    del more
    if event == _COMPILED:
      seconds.append(duration)

  jax.monitoring.register_event_duration_secs_listener(note)
  try:
    yield seconds
  finally:
    jax.monitoring.unregister_event_duration_listener(note)


def peak_bytes() -> int:
  """The most memory held so far: of the first device, or, on a CPU, resident
  in this process, which has the compiler in it."""
  stats = jax.local_devices()[0].memory_stats()
  if stats is not None:
    return stats['peak_bytes_in_use']
  unit = 1 if sys.platform == 'darwin' else 1024
  return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
