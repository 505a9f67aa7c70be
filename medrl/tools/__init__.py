"""Tools a policy may call while it writes: name, schema and call.

Not the parsing of a completion's answer, which belongs to `rewards`.
"""
