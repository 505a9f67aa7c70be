"""Several data sets in one stream, by weight; which record stands where.

The stream is a function of its place alone, so every process and every restart
sees the same. It reads no file and encodes nothing.
"""

from collections.abc import Sequence
import dataclasses
import functools

import grain

from medrl import types

# Substitutes that a place may have; see `Order.spare`.
SPARES = 1000


@dataclasses.dataclass(frozen=True)
class Source:
  """A data set in the stream.

  `records` are its records and `root` their data root. `weight` is its share,
  relative to the others'; `epoch` the places in `records` that an epoch goes
  through, for instance of `sampling.balanced`, by default each once.
  """
  records: Sequence[types.Record]
  root: str = ''
  weight: float = 1.
  name: str = ''
  epoch: Sequence[int] = ()

  def __post_init__(self):
    if not len(self.records):
      raise ValueError(f'data set {self.name!r} has no record')
    if not self.weight > 0:
      raise ValueError(f'data set {self.name!r} has weight {self.weight}; '
                       f'expected more than 0, or leave it out')

  def places(self) -> Sequence[int]:
    return self.epoch or range(len(self.records))


@dataclasses.dataclass(frozen=True)
class Order:
  """`stream[i]` is (source, record) at place i, `spares[s]` another order of
  source s for records that stand in for bad ones."""
  stream: grain.MapDataset
  spares: tuple[grain.MapDataset, ...]

  def spare(self, place: int, source: int, attempt: int) -> tuple[int, int]:
    """What stands at a place whose record and `attempt` spares were bad.

    It depends on the place alone, so no other place moves; it is of the same
    source, so that shares hold.
    """
    return self.spares[source][place * SPARES + attempt]


def order(sources: Sequence[Source], seed: int, shuffle: bool,
          repeat: bool) -> Order:
  """The stream of all sources.

  Args:
    sources: at least one.
    seed: of the order.
    shuffle: whether each epoch of a source has an order of its own; else the
      given one.
    repeat: without end, sources taking turns by weight (a source that is small
      for its share has more epochs); else each source once, one behind the
      other, whatever its weight.
  """
  def of(index, source, seed, endless):
    places = grain.MapDataset.source(source.places())
    if shuffle:
      places = places.seed(seed).shuffle()
    if endless:
      places = places.repeat()
    return places.map(functools.partial(_pair, index))

  streams = [of(i, s, seed + i, repeat) for i, s in enumerate(sources)]
  # Seeds of another range, or a spare might always be its bad record itself.
  spares = tuple(of(i, s, seed + len(sources) + i, True)
                 for i, s in enumerate(sources))
  if len(streams) == 1:
    return Order(streams[0], spares)
  if not repeat:
    return Order(grain.MapDataset.concatenate(streams), spares)
  weights = [source.weight for source in sources]
  return Order(grain.MapDataset.mix(streams, weights), spares)


def _pair(source: int, record: int) -> tuple[int, int]:
  return source, record


def identity(sources: Sequence[Source]) -> list[list]:
  """What a stream's places depend on besides seed and switches, json-able."""
  return [[s.name, len(s.records), len(s.places()), s.weight] for s in sources]
