"""What is counted in a program's text, against longhand counts and formulas."""


import jax
import jax.numpy as jnp
import pytest

from launch import hlo
from launch import hlo_collectives
from launch import hlo_copies
from launch import hlo_text
from tests import elsewhere
from tests.launch import compiled

M, K, N = 24, 40, 56


def facts(function, *arguments, **more) -> hlo.Facts:
  made = jax.jit(function).lower(*arguments).compile()
  return hlo.analyse(made.as_text(), 1, **more)


def floats(*shape):
  return jax.ShapeDtypeStruct(shape, jnp.float32)


# Products in and out of fusions, batched, transposed: name -> function,
# arguments, multiply-adds.
PRODUCTS = {
    'plain': (jnp.dot, (floats(M, K), floats(K, N)), M * K * N),
    'vector': (jnp.dot, (floats(M, K), floats(K)), M * K),
    'fused': (lambda a, b: jnp.tanh(a @ b + 1) * 2,
              (floats(M, K), floats(K, N)), M * K * N),
    'transposed': (lambda a, b: a.T @ b.T, (floats(K, M), floats(N, K)),
                   M * K * N),
    'batched': (lambda a, b: jnp.einsum('pgtd,pkd->pgtk', a, b),
                (floats(2, 3, M, K), floats(2, N, K)), 2 * 3 * M * K * N),
    'two': (lambda a, b: (a @ b) @ b.T, (floats(M, K), floats(K, N)),
            2 * M * K * N),
    'gradient': (jax.grad(lambda a, b: jnp.sum(jnp.square(a @ b)), (0, 1)),
                 (floats(M, K), floats(K, N)), 3 * M * K * N),
}


@pytest.mark.parametrize('name', sorted(PRODUCTS))
def test_products_longhand(name):
  function, arguments, pairs = PRODUCTS[name]
  made = jax.jit(function).lower(*arguments).compile()
  found = hlo.analyse(made.as_text(), 1)
  assert found.flops == 2 * pairs
  # Without loops jax's own analysis counts the same, and elementwise work.
  own = made.cost_analysis()['flops']
  assert 2 * pairs <= own <= 2 * pairs * 1.2 + 10 * M * N


def test_least_dimension_is_told():
  _, (a, b), _ = PRODUCTS['plain']
  ((least, flops),) = [product for kernel in facts(jnp.dot, a, b).kernels
                       for product in kernel.products]
  assert (least, flops) == (M, 2 * M * K * N)


def test_products_of_a_library():
  text = """HloModule jit_f

ENTRY %main (a: f32[2,24,40], b: f32[2,40,56]) -> (f32[2,24,56], s8[4096]) {
  %a = f32[2,24,40]{2,1,0} parameter(0)
  %b = f32[2,40,56]{2,1,0} parameter(1)
  ROOT %gemm = (f32[2,24,56]{2,1,0}, s8[4096]{0}) custom-call(%a, %b), \
custom_call_target="__cublas$gemm", backend_config={"gemm_backend_config":{\
"dot_dimension_numbers":{"lhs_contracting_dimensions":["2"],\
"rhs_contracting_dimensions":["1"],"lhs_batch_dimensions":["0"],\
"rhs_batch_dimensions":["0"]}}}
}
"""
  found = hlo.analyse(text, 1)
  assert found.flops == 2 * 2 * M * K * N
  assert found.custom == {'__cublas$gemm': 1}


def layers(x, weights):
  return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)[0]


def test_scan_counts_every_turn():
  made = jax.jit(layers).lower(floats(M, K), floats(7, K, K)).compile()
  found = hlo.analyse(made.as_text(), 1)
  assert found.flops == 7 * 2 * M * K * K and not found.unknown
  # What the analysis is for: jax's own counts the body once.
  assert made.cost_analysis()['flops'] < 2 * 2 * M * K * K


def test_scans_within_scans_and_their_gradient():
  def twice(x, weights):
    return jax.lax.scan(lambda x, _: (layers(x, weights), None), x, None, 3)[0]
  one = 3 * 7 * 2 * M * K * K
  arguments = floats(M, K), floats(7, K, K)
  assert facts(twice, *arguments).flops == one
  gradient = jax.grad(lambda x, w: jnp.sum(twice(x, w)), (0, 1))
  assert facts(gradient, *arguments).flops == 3 * one


def loops(x, w):
  """Ends by what it computes: an outer loop and one within it."""
  def inner(x):
    return jax.lax.while_loop(lambda x: jnp.sum(x) < 9, lambda x: x @ w, x)
  return jax.lax.while_loop(lambda x: jnp.sum(x) < 99,
                            lambda x: inner(x) @ w, x)


@pytest.mark.parametrize('trips,turns,told', [
    (1, 1 + 1, {'while': 1, 'while/body/while': 1}),
    (4, 4 + 16, {'while': 4, 'while/body/while': 4}),
    ({'while': 64}, 64 + 64, {'while': 64, 'while/body/while': 1}),
    ({'while': 64, 'while/body/while': 1 / 16}, 64 + 4,
     {'while': 64, 'while/body/while': 1 / 16})])
def test_turns_that_no_one_knows_are_asked_for(trips, turns, told):
  found = facts(loops, floats(M, K), floats(K, K), trips=trips)
  assert found.flops == turns * 2 * M * K * K
  assert found.unknown == told


def test_branches_count_by_the_largest():
  def either(flag, a, b):
    return jax.lax.cond(flag, lambda: a @ b, lambda: a @ (b @ (b.T @ b)))
  found = facts(either, jax.ShapeDtypeStruct((), bool), floats(M, K),
                floats(K, N))
  assert found.flops == 2 * (M * K * N + 2 * K * N * N)


def test_bytes_longhand():
  size = 4 * 1000
  assert facts(lambda x: jnp.sin(x) * 2 + 1, floats(1000)).bytes == 2 * size
  # Of an array that is cut or written in part, the part; indices are few.
  table, rows = floats(500, 1000), 3
  def cut(x, at):
    return jax.lax.dynamic_slice_in_dim(x, at, rows)
  at = jax.ShapeDtypeStruct((), jnp.int32)
  assert 0 <= facts(cut, table, at).bytes - 2 * rows * size < 100
  found = facts(lambda x, w: jax.lax.scan(
      lambda x, w: (x + w, None), x, w)[0], floats(1000), table)
  # Each turn reads a row and what it adds to, and writes that.
  assert 500 * 3 * size <= found.bytes < 500 * 5.2 * size


def test_largest_are_named():
  found = facts(lambda params, x: jnp.sin(x @ params['w']) @ params['w'].T,
                {'w': floats(K, 50 * N)}, floats(2, K))
  first, second = found.largest[:2]
  assert (first.bytes, first.shape, first.name) == (
      4 * K * 50 * N, (K, 50 * N), "params['w']")
  assert (first.op, first.copies) == ('parameter', 1)
  assert second.shape in ((2, 50 * N), (50 * N, K))


def collective(attribute: str) -> hlo_text.Instruction:
  return hlo_text.Instruction('a', hlo_text.kind('f32[8]'), 'all-reduce', (),
                              '', f', {attribute}, channel_id=1')


@pytest.mark.parametrize('attribute,groups', [
    ('replica_groups={{0,1},{2,3}}', [(0, 1), (2, 3)]),
    ('replica_groups={}', [(0, 1, 2, 3)]),
    ('replica_groups=[2,2]<=[4]', [(0, 1), (2, 3)]),
    ('replica_groups=[2,2]<=[2,2]T(1,0)', [(0, 2), (1, 3)]),
    ("replica_groups=mesh['a'=2,'b'=2] {'b'}", [(0, 1), (2, 3)]),
    ("replica_groups=mesh['a'=2,'b'=2] {'a'}", [(0, 2), (1, 3)]),
    ("replica_groups=mesh['a'=2,'b'=2] {'a','b'}", [(0, 1, 2, 3)]),
    ("replica_groups=mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)) {'b'}",
     [(0, 2), (1, 3)]),
    ("replica_groups=mesh['a'=4] {'a':(1)2}", [(0, 2), (1, 3)]),
    ("replica_groups=mesh['a'=4] {'a':(2)2}", [(0, 1), (2, 3)]),
    ('source_target_pairs={{0,1},{1,0}}', [(0, 1), (1, 0)])])
def test_groups_are_read_in_every_notation(attribute, groups):
  found = hlo_collectives.groups(collective(attribute), 4)
  assert sorted(map(tuple, found)) == groups


def test_groups_of_another_notation_are_refused():
  with pytest.raises(ValueError, match='replica_groups.*not known'):
    hlo_collectives.groups(collective('replica_groups=@name'), 4)


@pytest.mark.parametrize('kind,whole', [
    ('all-gather', 7 * 100), ('reduce-scatter', 7 / 8 * 100),
    ('all-reduce', 14 / 8 * 100), ('all-to-all', 7 / 8 * 100)])
@pytest.mark.parametrize('slices', [1, 2, 4])
def test_what_slices_send_each_other(kind, whole, slices):
  sent, across = hlo_collectives.sends(kind, 100, [tuple(range(8))], 8, slices)
  # A ring within slices and one between them send together what one would.
  assert sent + across == pytest.approx(whole)
  each = 8 // slices
  between = {'all-gather': slices - 1, 'all-to-all': (8 - each) / 8}.get(
      kind, whole / 87.5 * (slices - 1) / slices / each)
  assert across == pytest.approx(100 * between)


def test_only_neighbours_of_other_slices_permute_across():
  ring = [(i, (i + 1) % 4) for i in range(4)]
  sent, across = hlo_collectives.sends('collective-permute', 100, ring, 4, 2)
  assert (sent, across) == (50, 50)


@pytest.mark.parametrize('sharding,labels', [
    ('sharding={replicated}', (0, 0, 0, 0)),
    ('sharding={devices=[2,2]<=[4]}', (0, 1, 2, 3)),
    ('sharding={devices=[2,1,2]<=[4] last_tile_dim_replicate}', (0, 0, 1, 1)),
    ('sharding={devices=[2,1,2]<=[2,2]T(1,0) last_tile_dim_replicate}',
     (0, 1, 0, 1)),
    ('sharding={devices=[2,2]0,2,1,3}', (0, 2, 1, 3)),
    ('', (0, 1, 2, 3))])
def test_arguments_are_labelled_by_their_sharding(sharding, labels):
  assert hlo_copies.sharded(f', {sharding}, metadata={{}}', 4) == labels


@pytest.mark.parametrize('op,labels', [
    ('all-gather', (0, 0, 1, 1)), ('all-reduce', (0, 0, 1, 1)),
    ('reduce-scatter', (0, 1, 2, 3)), ('all-to-all', (0, 1, 2, 3))])
def test_collectives_make_groups_equal(op, labels):
  found = hlo_copies.exchanged((0, 1, 2, 3), [(0, 1), (2, 3)], op)
  assert found == labels
  # Equal before, equal behind.
  assert len(set(hlo_copies.exchanged((0, 1, 0, 1), [(0, 1), (2, 3)], op))) == (
      1 if op in ('all-gather', 'all-reduce') else 2)


# As libtpu writes it: no count of turns, products as convolutions, arrays in
# fast memory, S(1), a collective in pieces that are fused with what it runs
# beside, and an all-reduce of which only the own share is kept.
LIBTPU = elsewhere.ROOT / 'tests' / 'launch' / 'libtpu.hlo'


def test_libtpu_text():
  found = hlo.analyse(LIBTPU.read_text(), 4, large=1)
  assert not found.unknown and not found.custom
  # In each of eight turns, [64, 128] x [128, 32] and four [16, 8] x [8, 24].
  assert found.flops == 8 * 2 * (64 * 128 * 32 + 4 * 16 * 8 * 24)
  # The gather counts once a turn, of its three pieces.
  assert found.collectives == {'all-gather': 8 * 64 * 32 * 2,
                               'reduce-scatter': 1 / 2 * 64 * 32 * 2}
  assert {k.kind: k.hidden for k in found.kernels if k.sent} == {
      'all-gather': True, 'reduce-scatter': False}
  # What is copied to fast memory is read once.
  (copy,) = [k for k in found.kernels if k.name == 'copy-start.1']
  assert (copy.bytes, copy.hidden) == (64 * 32 * 2, True)


def test_libtpu_replicated():
  found = hlo.analyse(LIBTPU.read_text(), 4, large=64 * 32 * 2)
  same = {one.name: one.copies for one in found.replicated}
  assert same["params['w']"] == 2 and 'x' not in same
  # Gathered over the pairs that hold its halves, it is on two of each.
  assert same['async-collective-start'] == 4
  # Empty room is the same everywhere; what a loop writes there is not.
  assert 'room' not in same


@pytest.fixture(scope='module')
def exchanges():
  return elsewhere.printed(compiled.__name__, 'print_all()',
                           elsewhere.fake_devices())


PART = 8 * 16 // 8 * 4   # bytes of [8, 16] floats that a device of eight has


@pytest.mark.parametrize('kind,sent', [
    ('all-gather', 3 * PART), ('all-reduce', 2 * 3 / 4 * PART),
    ('reduce-scatter', 3 / 4 * PART), ('all-to-all', 3 / 4 * PART),
    ('collective-permute', PART)])
def test_collectives_by_formula(exchanges, kind, sent):
  # Four devices take part.
  assert exchanges[kind] == {kind: sent}


def test_four_slices_of_two(exchanges):
  across, sums = exchanges['across']
  # Two slices a group, two devices each: the slice's ring sends half of the
  # part and each device, twice, half of its own half to the other slice.
  assert sums == {'all-reduce': 1.5 * PART}
  assert across == 2 * 1 / 2 * PART / 2


def test_sharded_product(exchanges):
  flops, sums = exchanges['inner']
  rows, inner, columns = compiled.ROWS, compiled.INNER, compiled.COLUMNS
  assert flops == 2 * rows * inner // 4 * columns
  assert sums == {'all-reduce': 2 * 3 / 4 * rows * columns * 4}


def test_gathers_within_a_loop_count_every_turn(exchanges):
  flops, sums = exchanges['layers']
  rows, inner = compiled.ROWS // 2, compiled.INNER
  assert sums == {'all-gather': 5 * 3 / 4 * inner * inner * 4}
  assert flops == 5 * 2 * rows * inner * inner


def test_what_devices_repeat(exchanges):
  def copies(name):
    return {count for *_, count in exchanges[name]}
  assert copies('whole') == {8.}
  # Split over one axis of two, four devices hold the same of the argument.
  assert {count for _, op, _, count in exchanges['rows']
          if op == 'parameter'} == {4.}
  assert 8. in copies('rows')   # the right side is gathered
  assert not [1 for _, op, _, _ in exchanges['all'] if op == 'parameter']


@pytest.mark.slow
def test_programs_of_a_step_by_two_compilers():
  begun = [elsewhere.begin(compiled.__name__, f'print_step({platform!r})', env)
           for platform, env in (('cpu', elsewhere.fake_devices()),
                                 ('tpu', elsewhere.tpu()))]
  here, there = map(elsewhere.end, begun)
  for found in here, there:
    over = {name: one['over_model'] for name, one in found.items()}
    # The model counts half of causal attention, no padding, and a tower's
    # windows as such.
    assert 1 <= over['prepare'] < 1.2 and .9 < over['sample'] < 1.2
    # Back is twice forward, and the head's logits are computed again.
    assert 3 <= over['update'] / over['prepare'] < 4
    for name, one in found.items():
      assert set(one['unknown']) == (
          {'while', 'while/body/while'} if name in ('sample', 'sharded')
          else set()), name
      assert not one['custom'] and one['collectives']
    # With weights as training has them every token gathers them.
    assert found['sharded']['collectives']['all-gather'] > 10 * (
        found['sample']['collectives']['all-gather'])
  # Eight devices and products as dots, sixteen and convolutions: in units of
  # the model's own count they do the same.
  for name, one in here.items():
    assert one['over_model'] == pytest.approx(there[name]['over_model']), name


def test_text_of_no_module():
  with pytest.raises(ValueError, match='no ENTRY.*as_text'):
    hlo.analyse('module @jit_f {}', 1)
