"""The textbook: every operation in NumPy, for any float dtype, written to be read.

What the functions here compute is right by definition; the other backends are tested against them. A file
with a leading underscore holds no operation of its own.
"""

from ..ops import expose

expose(__name__)
