# cython: language_level=3
"""
Whether a text is a plain decimal number that decimal(38,10) holds: nearly all are, and need no other check.

It is C, because an order has twenty of them and a regular expression costs more than making the Decimal does.
"""

from cpython.unicode cimport PyUnicode_AsUTF8AndSize

# As `streams.stages.convert` has them.
cdef enum:
    INTEGER_DIGITS = 28
    PLACES = 10


def is_plain(str text not None):
    """Tell whether it is a minus sign or none, 1 to 28 digits, and maybe a point with 1 to 10 digits behind it."""
    cdef Py_ssize_t size, place = 0
    cdef int digits = 0
    cdef const char* data = PyUnicode_AsUTF8AndSize(text, &size)
    if place < size and data[place] == c'-':
        place += 1
    while place < size and c'0' <= data[place] <= c'9':
        digits += 1
        place += 1
    if not 1 <= digits <= INTEGER_DIGITS:
        return False
    if place == size:
        return True
    if data[place] != c'.':
        return False
    if not 1 <= size - place - 1 <= PLACES:
        return False
    for place in range(place + 1, size):
        if not c'0' <= data[place] <= c'9':
            return False
    return True
