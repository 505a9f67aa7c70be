"""What the tables of cases check of a reading, besides its value."""


def value(parsed, text):
  """Returns the value; the span must lie in the text, and `how` say how."""
  if parsed is None:
    return None
  start, end = parsed.span
  assert 0 <= start <= end <= len(text), parsed
  assert parsed.how
  return parsed.value
