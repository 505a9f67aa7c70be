"""Reads answers and structure out of text, or says that there are none.

Each parser takes text and returns a `spans.Parsed` or None. None is an outcome
of its own: two readings that disagree, a truncated list or a letter inside
prose are unparsed, never guessed. Any string is read without an exception. The
package does not know the right answer and scores nothing.
"""
