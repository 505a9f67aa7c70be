"""Text in, numbers out: parsers, rules, and their weighted composition.

Loads no jax. `array` holds the rules that run over padded arrays instead.
"""
