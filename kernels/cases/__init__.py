"""Per op: inputs chosen to hurt, how to run every function on them, and shapes worth timing.

One file for each file of kernels; it binds a `Suite` to the name of each op that it serves.
"""
