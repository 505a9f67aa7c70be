"""Radiology reports as sections: findings, impression, comparison and so on.

Reads the free text of MIMIC-CXR (capital heads with a colon, 'FINAL REPORT',
underscores for what was taken out), heads of mixed case, heads inside of a
line, German heads, and the abstracts of the IU X-ray XML files. Nothing is
corrected, re-flowed or lost: heads and bodies together are the text.

Sections inside of findings ('LUNGS:', 'Heart:') are no sections of their own.
Not here: sections of a completion, for which there are rules of what may be
read (`rewards.parse.blocks`).
"""

import dataclasses
import re
from xml.parsers import expat

# Name of a section -> how it is headed, in any case.
HEADS = {
    'findings': (
        'findings', 'finding', 'befund', 'befunde'),
    'impression': (
        'impression', 'impressions', 'conclusion', 'conclusions', 'beurteilung',
        'zusammenfassung', 'schlussfolgerung'),
    # Which of the two it is, is not guessed.
    'findings_and_impression': (
        'findings and impression', 'findings/impression',
        'findings / impression', 'findings/ impression',
        'impression and findings', 'impression/findings',
        'provisional findings impression', 'befund und beurteilung'),
    'comparison': (
        'comparison', 'comparisons', 'comparison exam', 'comparison film',
        'comparison study', 'reference exam', 'vergleich',
        'voruntersuchung', 'voruntersuchungen', 'voraufnahmen'),
    'indication': (
        'indication', 'indications', 'clinical indication', 'history',
        'clinical history', 'patient history', 'past medical history',
        'clinical information', 'clinical data', 'reason for exam',
        'reason for examination', 'reason for study', 'reason for this exam',
        'reason for this examination', 'klinische angaben', 'indikation',
        'fragestellung', 'klinische fragestellung', 'anamnese',
        'rechtfertigende indikation'),
    'technique': (
        'technique', 'procedure', 'procedure comments', 'technik',
        'untersuchungstechnik', 'methode'),
    'examination': (
        'examination', 'exam', 'type of examination', 'type of exam', 'study',
        'untersuchung'),
    'recommendation': (
        'recommendation', 'recommendations', 'recommendation(s)', 'empfehlung',
        'empfehlungen'),
    'addendum': ('addendum', 'nachtrag'),
    'notification': ('notification', 'notifications', 'communication'),
    'comment': ('comment', 'comments'),
    'wet_read': ('wet read', 'wetread'),
    'narrative': ('narrative',),
    'summary': ('summary',),
    'end_of_impression': ('end of impression',),
    'accession': ('accession number',),
    'date': ('date', 'date of exam', 'exam date', 'datum'),
}
PREAMBLE = 'preamble'
# These stand inside of lines so often that a capital is sign enough there.
_PLAIN = ('findings', 'impression', 'findings_and_impression')
_NAMES = {head: name for name, heads in HEADS.items() for head in heads}
# Tried at each word: the longest first, so that none hides behind its start.
_KNOWN = '|'.join(
    re.escape(head).replace(r'\ ', r'[ \t]{1,4}')
    for head in sorted(_NAMES, key=len, reverse=True))
_HEAD = re.compile(
    rf'(?i)(?<!\w)({_KNOWN})(?:[ \t]{{0,2}}\(pfi\))?[ \t*]{{0,8}}[:：]'
    r'\*{0,2}')
_ALONE = re.compile(rf'(?i)({_KNOWN})[ \t*_#]{{0,8}}\r?\Z')
_DECOR = re.compile(r'[\s*#>•-]*')   # no '_', which are words taken out
# 'IMPRESSION AP CHEST:', 'CHEST, PA AND LATERAL:' at the start of a line.
_CAPITALS = re.compile(r"([A-Z][A-Z0-9 ()/,&.'+-]{1,70}):")
_TITLE = re.compile(r'(?:FINAL|INTERIM|PRELIMINARY) REPORT\b[ \t]*:?')
_VIEWS = re.compile(
    r'CHEST|PORTABLE|\bAP\b|\bPA\b|LATERAL|FRONTAL|VIEWS?\b|RADIOGRAPH|X-?RAY')
# Of a head in capitals that is not known as a whole, by what it holds.
_HELD = (
    ('notification', re.compile('NOTIFICATION|COMMUNICAT')),
    ('findings_and_impression', re.compile('FINDINGS?.*IMPRESSION')),
    ('impression', re.compile('IMPRESSION|CONCLUSION')),
    ('findings', re.compile(r'FINDINGS?\b')),
    ('comparison', re.compile('COMPARISON')),
    ('indication', re.compile('INDICATION|HISTORY')),
    ('examination', re.compile(r'EXAM(?:INATION)?\b')),
    ('addendum', re.compile('ADDENDUM')))
# The end of a sentence, and not the number of an item in a list.
_ENDED = re.compile(r'(?<!\d)[.;:!?)\]|][ \t*]{0,8}\Z')
# An IU X-ray report has some 5 KB and nests 6 deep.
_MAX_XML_BYTES = 1 << 20
_MAX_XML_DEPTH = 64


@dataclasses.dataclass(frozen=True)
class Section:
  """A section of a text: its head is [start, body), its body [body, end).

  `text` is the body without the white space around it. `name` is a key of
  HEADS or 'preamble', which is what stands before the first head, or after a
  title such as 'FINAL REPORT'.
  """
  name: str
  text: str
  start: int
  body: int
  end: int


def split(text: str) -> tuple[Section, ...]:
  """The sections of a report in their order, which together are the text.

  A head is one of HEADS with a colon at the start of a line, or alone on its
  line with a capital; inside of a line it is in capitals or follows the end of
  a sentence, and for findings and impression a capital will do. Other heads in
  capitals at the start of a line count by the word they hold ('IMPRESSION AP
  CHEST:'), and those that name views ('CHEST, TWO VIEWS:') head findings if
  words follow and there were none before, else they are the examination. The
  work grows with the length of the text and no faster.
  """
  heads, described = [], False
  at = 0
  while at < len(text):
    line_end = text.find('\n', at)
    line_end = len(text) if line_end < 0 else line_end
    line = text[at:line_end]
    for name, start, body in _heads(line, described):
      heads.append((name, at + start, at + body))
      described = described or name in _PLAIN
    at = line_end + 1
  heads = [(PREAMBLE, 0, 0)] * (not heads or heads[0][1] > 0) + heads
  ends = [start for _, start, _ in heads[1:]] + [len(text)]
  return tuple(Section(name, text[body:end].strip(), start, body, end)
               for (name, start, body), end in zip(heads, ends))


def sections(text: str) -> dict[str, str]:
  """Name -> text, of the sections that hold any; see `split` for their places.

  Sections of one name, such as an indication and a history, are joined by an
  empty line.
  """
  return _joined((part.name, part.text) for part in split(text))


def from_xml(data: bytes) -> dict[str, str]:
  """Name -> text of an IU X-ray report (Demner-Fushman et al. 2016).

  These are its `AbstractText` elements by their `Label`; a label that is no
  known head is kept in lower case.

  Raises:
    ValueError: not well formed, too large or deep, a document type or entities
      (which such files do not have and attacks do), or no AbstractText.
  """
  if len(data) > _MAX_XML_BYTES:
    raise ValueError(f'a report of {len(data)} bytes of XML; expected at most '
                     f'{_MAX_XML_BYTES}')
  found, open_tags = [], []

  def start(tag, attributes):
    open_tags.append(tag)
    if len(open_tags) > _MAX_XML_DEPTH:
      raise ValueError(f'XML nested more than {_MAX_XML_DEPTH} deep')
    if tag == 'AbstractText':
      found.append((attributes.get('Label', PREAMBLE), []))

  def words(characters):
    if 'AbstractText' in open_tags:
      found[-1][1].append(characters)

  def refused(*unused):
    raise ValueError('XML with a document type; a report has none, and it can '
                     'ask for files or for any amount of memory')

  parser = expat.ParserCreate()
  parser.StartElementHandler = start
  parser.EndElementHandler = lambda tag: open_tags.pop()
  parser.CharacterDataHandler = words
  parser.StartDoctypeDeclHandler = refused
  try:
    parser.Parse(data, True)
  except (expat.ExpatError, LookupError) as error:   # an unknown encoding
    raise ValueError(f'not well-formed XML: {error}') from error
  if not found:
    raise ValueError('XML without AbstractText; expected an IU X-ray report')
  return _joined((_named(label), ''.join(pieces).strip())
                 for label, pieces in found)


def _joined(parts) -> dict[str, str]:
  found: dict[str, list[str]] = {}
  for name, text in parts:
    if text:
      found.setdefault(name, []).append(text)
  return {name: '\n\n'.join(texts) for name, texts in found.items()}


def _named(head: str) -> str:
  plain = ' '.join(head.lower().split())
  return _NAMES.get(plain, plain)


def _heads(line: str, described: bool) -> list[tuple[str, int, int]]:
  """Name, start and end of the heads in a line, in order."""
  first = _DECOR.match(line).end()
  found = []
  title = _TITLE.match(line, first)
  start = 0   # what decorates a head belongs to it
  if title:
    found.append((PREAMBLE, 0, title.end()))
    start, first = title.end(), _DECOR.match(line, title.end()).end()
  alone = _ALONE.match(line, first)
  if alone and alone[1][0].isupper():
    return [*found, (_named(alone[1]), start, alone.end())]
  inside = [(_named(head[1]), head.start(), head.end())
            for head in _HEAD.finditer(line, first)
            if head.start() == first or _stands_out(line, head)]
  if inside and inside[0][1] == first:
    inside[0] = inside[0][0], start, inside[0][2]
  else:
    found += _capitals(line, (start, first), described)
  at = found[-1][2] if found else 0
  return found + [head for head in inside if head[1] >= at]


def _stands_out(line: str, head: re.Match) -> bool:
  """Whether it is a head although words come before it."""
  words, name = head[1], _named(head[1])
  if words.isupper() or words[0].isupper() and name in _PLAIN:
    return True
  before = line[max(0, head.start() - 10):head.start()]
  return words[0].isupper() and bool(_ENDED.search(before))


def _capitals(line: str, starts: tuple[int, int],
              described: bool) -> list[tuple[str, int, int]]:
  """The head in capitals that starts a line, if it is one.

  `starts` are where the line's decoration and its words begin.
  """
  head = _CAPITALS.match(line, starts[1])
  if not head:
    return []
  for name, held in _HELD:
    if held.search(head[1]):
      return [(name, starts[0], head.end())]
  if described or not _VIEWS.search(head[1]):
    return []
  follows = line[head.end():].strip()
  name = 'findings' if follows and not _HEAD.match(follows) else 'examination'
  return [(name, starts[0], head.end())]
