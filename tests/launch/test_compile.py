"""Figures of compiled programs, by hand and on eight fake devices.

For TPUs that are not here: test_compile_tpu.
"""

import json
import math
import re

import jax
import pytest

from experiments import base
from launch import compile as compile_script
from launch import compile_counts
from launch import compile_figures
from launch import compile_memory
from launch import compile_programs
from launch import compile_report
from launch import compile_search
from launch import compile_table
from launch import hlo_buffers
from medrl import accelerators
from medrl import params as params_lib
from medrl import sharding
from medrl.models import qwen2_5_vl
from medrl.trainers import outline
from tests import elsewhere

CHIP = accelerators.CHIPS['v5e']
# Bytes of an array that must not be repeated, at toy size: more than the patch
# embedding, less than a chip's share of the embedding of so many ids.
LARGE, VOCAB = 160_000, 16_384
NAMES = ('weigh', 'encode', 'prefill', 'decode', 'sample', 'score', 'prepare',
         'update')


def config(**mesh):
  c = base.get_config()
  c.model.size = 'toy'
  c.data.buckets = ((64, 64), (128, 128))
  c.rollout.update(dict(prompts=16, group=2, length=8, slots=16, chunk=8))
  c.rl.update(dict(kl_weight=0.1, microbatches=2))
  c.mesh.update(dict(data=1, **mesh))
  return c


def run(**mesh):
  """In outline, on eight devices of which nothing is known but their number."""
  c = config(**mesh)
  compile_programs.largest_alone(c)
  sizes = {'data': 1, 'fsdp': 1, 'sequence': 1, 'tensor': 1} | mesh
  return outline.open_run(c, jax.sharding.AbstractMesh(
      tuple(sizes[axis] for axis in sharding.AXES), sharding.AXES))


def print_figures(names):
  """Of programs as they should be, and of one whose weights are not split."""
  out = {}
  for name, embed, only in (('split', 'fsdp', names),
                            ('whole', '', ('score',))):
    c = config(fsdp=4, tensor=2)
    c.sharding.embed, c.rl.vocab_chunk = embed, 512
    compile_programs.largest_alone(c)
    session = outline.open_session(outline.open_run(
        c, sharding.make_mesh(**c.mesh), qwen2_5_vl.with_options(
            qwen2_5_vl.CONFIGS['toy'], vocab=VOCAB)))
    out[name], _ = compile_figures.programs(session, CHIP, 1, only, LARGE)
  print(json.dumps(out))


@pytest.fixture(scope='module', params=[
    ('prefill', 'score'), pytest.param(NAMES, marks=pytest.mark.slow)],
                ids=['two', 'all'])
def figures(request):
  return elsewhere.printed(__name__, f'print_figures({request.param!r})',
                           elsewhere.fake_devices())


def test_every_program_has_its_figures(figures):
  for name, one in figures['split'].items():
    assert one['fits'] and one['bytes_per_chip'] == sum(one['held'].values())
    assert one['seconds_estimate'] > 0 and len(one['largest']) == 5, name


# At toy size attention sees all slots of a cache or row and not half of them,
# all blocks of the tower count as those that see whole images, and the
# gradient computes chunks of the vocabulary again.
MOST = {'encode': 1.7, 'prefill': 1.5, 'decode': 1.5, 'score': 1.6,
        'prepare': 1.6, 'update': 2., 'sample': 1.7}


def test_flops_of_the_text_are_those_of_the_model(figures):
  for name, one in figures['split'].items():
    if name != 'weigh':
      assert 0.9 < one['flops'] / one['flops_counted'] < MOST[name], name


def test_a_chip_sends_at_least_the_floor(figures):
  for name, one in figures['split'].items():
    sent, floor = one['collective_bytes'], one['collective_floor']
    assert sum(sent.values()) >= 0.99 * sum(floor.values()), name


def test_nothing_large_is_repeated_and_the_check_finds_what_is(figures):
  repeated = {name: one['replicated'] for name, one in
              figures['split'].items() if one['replicated']}
  assert not repeated
  found = figures['whole']['score']['replicated']
  assert any(b['op'] == 'parameter' and b['copies'] == 4 for b in found)


def test_the_floor_of_a_sharding_by_hand():
  opened = run(fsdp=4, tensor=2)
  of = compile_programs.sizes(opened)
  sent = compile_counts.sent(opened, of)
  specs = jax.tree.leaves(opened.specs)
  over = {axis for axis, mesh in opened.config.sharding.items()
          if mesh == 'tensor'}
  split = {axis for axis, mesh in opened.config.sharding.items()
           if mesh == 'fsdp'}
  gathered = sum(4 * math.prod(s.shape) / (2 if over & {*s.axes} else 1)
                 for s in specs if split & {*s.axes})
  assert sent['weigh']['parameters'] == pytest.approx(gathered * 3 / 4)
  assert sent['update']['parameters'] == pytest.approx(
      2 * 2 * gathered * 3 / 4)
  # What fsdp splits is scattered, the rest summed by all four.
  rest = sum(4 * math.prod(s.shape) / (2 if over & {*s.axes} else 1)
             for s in specs if not split & {*s.axes})
  assert sent['update']['gradients'] == pytest.approx(
      gathered * 3 / 4 + 2 * rest * 3 / 4)
  text, vision = opened.model.text, opened.model.vision
  row = (128 + 2 * 8) * text.hidden * text.layers + (
      128 * vision.hidden * vision.depth)
  # Two sums a layer; of two chips each sends half of an array twice.
  assert sent['score']['activations'] == pytest.approx(16 / 4 * 2 * 4 * row)
  assert sent['decode']['activations'] == pytest.approx(
      16 / 4 * 2 * 4 * text.hidden * text.layers)


def test_passes_and_calls_of_a_step():
  opened = run(fsdp=4, tensor=2)
  of = compile_programs.sizes(opened)
  assert of.calls == {'encode': 2, 'prefill': 2, 'decode': 16 * 2 * 8 / 16}
  counted = compile_counts.flops(opened, of)
  assert counted['update'] == 3 * counted['score'] == 3 * counted['prepare']
  parts = sum(times * counted[part] for part, times in of.calls.items())
  assert counted['sample'] == pytest.approx(parts, rel=1e-6)
  opened.config.rl.minibatches = 2   # no longer on policy
  assert compile_counts.passes(opened.config) == 2


def test_bytes_held_on_a_chip_are_those_of_its_shard():
  opened = run(fsdp=4, tensor=2)
  laid = sharding.of_specs(opened.mesh, opened.specs, opened.config.sharding)
  tree = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=s), params_lib.abstract(opened.specs), laid)
  whole = 4 * params_lib.count(opened.specs)
  # Norms are whole, and most of the rest is split by eight.
  assert whole / 8 < compile_memory.of_arrays(tree) < whole / 4


class Executable:
  """Two arguments on eight devices, of which the text tells nothing, and one
  that nothing reads."""

  def __init__(self, mesh):
    def laid(*axes):
      return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))
    self.input_shardings = ((laid('fsdp'), None, laid(None, 'tensor')), {})
    shape = jax.ShapeDtypeStruct((8, 8), 'float32')
    self.in_avals = (3 * (shape,), {})

  def as_text(self):
    return ('HloModule jit_f\n\nENTRY %main (a: f32[2,8], b: f32[8,4]) -> () {'
            '\n  %a = f32[2,8]{1,0} parameter(0), metadata={op_name="a"}'
            '\n  %b = f32[8,4]{1,0} parameter(1)\n  ROOT %t = () tuple()\n}\n')


def print_text():
  told = compile_memory.text(Executable(sharding.make_mesh(1, 4, 1, 2)))
  print(json.dumps(re.findall(r'sharding=(\{.*?\})', told)))


def test_text_tells_how_arguments_lie_where_the_compiler_does_not():
  found = elsewhere.printed(__name__, 'print_text()', elsewhere.fake_devices())
  # Devices are fsdp-major; in words that XLA's own texts have.
  assert found == [
      '{devices=[4,2]0,1,2,3,4,5,6,7 last_tile_dim_replicate}',
      '{devices=[2,4]0,2,4,6,1,3,5,7 last_tile_dim_replicate}']


REFUSED = '''RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of \
memory in memory space hbm. Used 20.96G of 15.75G hbm. Exceeded hbm capacity \
by 5.21G.

Total hbm usage >= 21.20G:
    reserved        258.00M
    program          15.95G
    arguments         5.01G

Output size 1.00G; shares 1.00G with arguments.

Program hbm requirement 15.95G:
    global           276.0K
    HLO temp         15.95G (100.0% utilization: Unpadded (15.95G) Padded \
(15.95G), 0.0% fragmentation (0B))

  Largest program allocations in hbm:

  1. Size: 4.00G
     Operator: op_name="jit(step)/transpose/dot_general" source_file="a.py"
     Shape: f32[32768,32768]{1,0:T(8,128)}
     Unpadded size: 4.00G
     XLA label: fusion.12 = fusion(copy.3), kind=kOutput
     Allocation type: HLO temp
     ==========================

  2. Size: 512.00M
     Shape: bf16[2,64,2048]{2,1,0}
     Unpadded size: 512.00M
     XLA label: copy.7 = copy(param.2)
     Allocation type: HLO temp
     ==========================
'''


def test_a_compilers_refusal_names_its_buffers():
  told = compile_memory.refusal(REFUSED)
  assert told['bytes_per_chip'] == pytest.approx(20.96 * 2 ** 30)
  assert [(b['bytes'], b['shape'], b['name']) for b in told['largest']] == [
      (4 * 2 ** 30, 'f32[32768,32768]', 'jit(step)/transpose/dot_general'),
      (2 ** 29, 'bf16[2,64,2048]', 'copy.7')]
  short = compile_memory.refusal(
      'RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, '
      'the total memory required for HLO temporaries (19.46G) exceeds '
      'available HBM (15.75G). HLO module: jit_step.')
  assert short['bytes_per_chip'] == pytest.approx(19.46 * 2 ** 30)
  assert compile_memory.refusal('INTERNAL: Mosaic failed to compile') is None


def program(size, fits, sent=0., beside=0):
  return {'bytes_per_chip': size, 'held_beside': beside, 'fits': fits,
          'largest': [{'bytes': size // 2, 'shape': 'f32[8]', 'op': 'fusion',
                       'name': 'while/body/mul'}],
          'collective_bytes': {'all-gather': sent}}


def result(programs):
  return {'programs': programs, 'topology': 'v5e:2x2', 'chip_bytes': 16 * 10**9,
          'fits': all(one['fits'] for one in programs.values())}


def test_what_does_not_fit_is_told_with_its_largest_buffer():
  told = compile_report.verdict(result({
      'sample': program(10 ** 10, True),
      'update': program(18 * 10 ** 9, False, beside=10 ** 9)}))
  assert 'update needs 19 G bytes a chip of 16 G, 1 G of them held' in told
  assert '9 G f32[8] fusion while/body/mul' in told


def test_buffers_are_repeated_where_no_rule_means_it():
  opened = run(fsdp=4, tensor=2)
  def buffer(copies, op, name, shape=(7, 11)):
    return hlo_buffers.Buffer(2 ** 27, shape, op, name, copies)
  layer = opened.model.text   # gate of a layer, half of it on a tensor chip
  gate = (layer.hidden, layer.ffn // 2)
  meant = [buffer(2, 'fusion', 'while/body/add'),
           buffer(4, 'all-gather', 'while/body/dot', gate),
           buffer(2, 'parameter', "batch.rollout.prompt.media['image']")]
  meant.append(buffer(8, 'broadcast', 'while/body'))
  wrong = [buffer(8, 'fusion', 'while/body/add'),
           buffer(4, 'parameter', "state.trained['embed']"),
           buffer(2, 'parameter', "state.opt_state[1][0].mu['embed']"),
           buffer(4, 'all-gather', 'dot', (layer.layers, *gate))]
  assert compile_memory.replicated(opened, meant + wrong, False) == wrong
  weight = buffer(4, 'parameter', "params['decoder']['gate']",
                  (layer.layers, *gate))
  assert not compile_memory.replicated(opened, [weight], True)
  assert compile_memory.replicated(opened, [weight], False)


def test_meshes_are_all_ways_to_split_the_chips():
  found = list(compile_search.meshes(8, slices=2))
  assert len(found) == 6   # ordered factorisations of 4 into three
  assert all(math.prod(mesh.values()) == 8 and mesh['data'] == 2
             for mesh in found)


@pytest.mark.parametrize('most, start, found', [
    (64, 16, 64), (8, 64, 8), (16, 16, 16)])
def test_the_largest_batch_is_found_with_few_compiles(most, start, found):
  c, tried = config(fsdp=4, tensor=2), []
  c.rollout.prompts = start
  def compiled(names):
    assert set(names) == {'update', 'sample'}
    tried.append(c.rollout.prompts)
    return result({'update': program(10 ** 9, c.rollout.prompts <= most)})
  assert compile_search._prompts(c, compiled, lambda line: None) == found
  assert len(tried) == len(set(tried)) <= compile_search.BATCHES


def test_no_batch_that_fits_is_an_error():
  c = config(fsdp=4, tensor=2)
  with pytest.raises(ValueError, match='not even 1 prompts fit'):
    compile_search._prompts(
        c, lambda names: result({'update': program(10 ** 9, False)}), print)


def test_the_mesh_that_fits_and_sends_the_least_is_taken():
  tried = [compile_search.Candidate(dict(fsdp=f, tensor=8 // f), 1, 0., 0.)
           for f in (8, 4, 2)]
  sent = {8: (5., False), 4: (9., True), 2: (7., True)}
  c = config(fsdp=1, tensor=1)
  def compiled(names):
    size, fits = sent[c.mesh.fsdp]
    return result({'update': program(10 ** 9, fits, size)})
  said = []
  best = compile_search._mesh(c, tried, compiled, said.append)
  assert best.mesh['fsdp'] == 2
  assert sum(line.startswith('mesh ') for line in said) == len(tried)


def test_meshes_that_do_not_go_with_the_model_are_left_out_with_the_reason():
  c, said = config(fsdp=8, tensor=1), []
  compile_programs.largest_alone(c)
  devices = jax.devices() * 8
  found = compile_search.candidates(c, devices, 1, CHIP, said.append)
  # The toy has two key heads, and windows of 64 patches: two in a prompt.
  assert found and all(one.mesh['tensor'] <= 2 and one.mesh['sequence'] <= 2
                       for one in found)
  assert any("axis 'heads' of size" in line or "'kv_heads' of size" in line
             for line in said)
  assert found == sorted(found, key=lambda one: one.sent)


def test_a_model_is_named_by_its_size():
  c = config(fsdp=1)
  compile_script.sized(c, 'qwen2_5_vl_7b')
  assert c.model.size == 'qwen2_5_vl_7b'
  with pytest.raises(ValueError, match='--model=qwen2_5_vl_8b'):
    compile_script.sized(c, 'qwen2_5_vl_8b')


def test_rows_of_the_table_divide_over_their_slices():
  found = list(compile_table.rows())
  assert len(found) == 12 and {row.model for row in found} == {
      *compile_table.MODELS}
  for row in found:
    flags = dict(flag.removeprefix('--config.').split('=')
                 for flag in row.flags)
    parts = accelerators.count(row.topology) // row.tensor
    prompts = int(flags['rollout.prompts'])
    assert prompts // int(flags['rl.microbatches']) == parts
    for key in ('rollout.slots', 'rollout.chunk', 'rollout.resident'):
      assert not int(flags[key]) % parts
  assert [row.name for row in compile_table.rows(('7b', 'v5e'))] == [
      'qwen2_5_vl_7b-v5e-8x8']


def test_a_line_of_the_table_has_the_fullest_moment_and_what_is_sent():
  found = result({'sample': program(10 ** 10, True, 3e9),
                  'update': program(12 * 10 ** 9, True, 5e9, 3 * 10 ** 9)})
  told = compile_table.line(found | {
      'model': 'qwen2_5_vl_7b', 'mesh': dict(data=1, fsdp=16, tensor=4),
      'batch': dict(prompts=128, group=8)})
  assert told == ('| 7b | v5e:2x2 | fsdp 16 x tensor 4 | 128 x 8 | 15.0 of 16 '
                  '(update) | - | 3.0 | 5.0 |')
