"""Adam's moments: what they are stored in, and where they lie.

Arithmetic is float32 whatever they are stored in. Moments in host memory are
brought to the device a layer at a time. No schedule, no decay and no clipping
are here: `state.optimizer` puts them around.
"""

import jax
import jax.numpy as jnp
import optax

from medrl import sharding

DTYPES = ('float32', 'bfloat16')


def adam(options, specs) -> optax.GradientTransformationExtraArgs:
  """Adam (Kingma & Ba, arXiv 1412.6980), its state that of optax.

  In bfloat16 both moments are rounded stochastically. To the nearest, a second
  moment v does not move while |g^2 - v| is below 2^-9 to 2^-8 of v / (1 - b2):
  at b2 = 0.98 it may stay a fifth off, and at 0.999 it never falls again.
  Draws are keyed by the count of updates, so that a resumed run draws what it
  would have drawn, and nothing is added to the state.

  Args:
    options: `b1, b2, eps, moment_dtype`, of config.rl.optim or .sft.optim.
    specs: tree of `params.Spec`; matrices whose first axis is 'layers' are
      taken a layer at a time where their moments lie on the host.

  Returns:
    a transformation. Its update takes `sound`, bool []: where False the state
    stays as it was.

  Raises:
    ValueError: a dtype that moments are not stored in.
  """
  if options.moment_dtype not in DTYPES:
    raise ValueError(f'optim.moment_dtype {options.moment_dtype!r} is not '
                     f'{" or ".join(DTYPES)}')
  dtype = jnp.dtype(options.moment_dtype)
  inner = optax.scale_by_adam(options.b1, options.b2, options.eps)
  # Vectors of layers lie in one tile of memory, out of which no row is cut.
  stacked = [s.axes[0] == 'layers' and len(s.shape) > 2
             for s in jax.tree.leaves(specs)]

  def init(params):
    state = inner.init(params)
    return state._replace(mu=optax.tree.cast(state.mu, dtype),
                          nu=optax.tree.cast(state.nu, dtype))

  def update(grads, state, params=None, *, sound=True, **more):
    del params, more

    def one(grad, moments, key):
      old = optax.ScaleByAdamState(
          state.count, *(m.astype(jnp.float32) for m in moments))
      step, new = inner.update(grad, old)
      new = _stored((new.mu, new.nu), dtype, key)
      return step, tuple(jnp.where(sound, n, m) for n, m in zip(new, moments))

    grads, tree = jax.tree.flatten(grads)
    mu, nu = tree.flatten_up_to(state.mu), tree.flatten_up_to(state.nu)
    keys = jax.random.split(
        jax.random.fold_in(jax.random.key(0), state.count), len(grads))
    found = [_leaf(one, *leaf)
             for leaf in zip(grads, zip(mu, nu), keys, stacked, strict=True)]
    steps, moments = zip(*found)
    mu, nu = (tree.unflatten(m) for m in zip(*moments))
    count = jnp.where(sound, optax.safe_increment(state.count), state.count)
    return tree.unflatten(steps), optax.ScaleByAdamState(count, mu, nu)

  return optax.GradientTransformationExtraArgs(init, update)


def _leaf(one, grad, moments, key, stacked: bool):
  """`one` over an array; the draws do not depend on where its moments lie."""
  away = sharding.on_host(moments[0])
  if not stacked:
    step, new = one(grad, sharding.to_device(moments), key)
    return step, jax.device_put(new, jax.memory.Space.Host) if away else new
  keys = jax.random.split(key, len(grad))
  if not away:
    return jax.vmap(one)(grad, moments, keys)

  def layer(i, carry):
    steps, moments = carry
    def at(x):
      return jax.lax.dynamic_index_in_dim(x, i, keepdims=False)
    step, new = one(at(steps), jax.device_put(
        tuple(map(at, moments)), jax.memory.Space.Device), at(keys))
    new = jax.device_put(new, jax.memory.Space.Host)
    put = jax.lax.dynamic_update_index_in_dim
    return put(steps, step, i, 0), tuple(
        put(m, n, i, 0) for m, n in zip(moments, new))

  # Steps overwrite gradients, so that only a layer of anything is added.
  return jax.lax.fori_loop(0, len(grad), layer, (grad, moments))


def _stored(moments, dtype, key):
  """Float32 moments as they are kept; both take their half of one draw."""
  if dtype == jnp.float32:
    return moments
  bits = jax.random.bits(key, moments[0].shape, jnp.uint32)
  return tuple(stochastic_round(m, half) for m, half in zip(
      moments, (bits & 0xffff, bits >> 16)))


def stochastic_round(x, bits):
  """bfloat16 neighbours of float32 `x`, whose mean is `x`.

  Args:
    x: float32, any shape.
    bits: uint32 below 2^16, uniform, of the same shape.

  Returns:
    bfloat16; of what is not finite, itself.
  """
  raised = jax.lax.bitcast_convert_type(x, jnp.uint32) + bits
  short = jax.lax.bitcast_convert_type((raised >> 16).astype(jnp.uint16),
                                       jnp.bfloat16)
  return jnp.where(jnp.isfinite(x), short, x.astype(jnp.bfloat16))
