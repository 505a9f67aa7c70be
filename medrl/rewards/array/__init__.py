"""Rules over padded arrays [P, G, ...], written once over a namespace `xp`.

Loads no jax: the caller hands numpy or jax.numpy in.
"""
