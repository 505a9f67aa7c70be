"""Reports written for these tests in the layouts of public data sets.

MIMIC-CXR's own reports need a licence; heads and layout are those that its
section parser (MIT-LCP/mimic-cxr, txt/section_parser.py) names.
"""

import random

import pytest

from medrl.data import sections

MIMIC = '''\
                                 WET READ: ___ ___ ___ 9:09 PM
  No acute process.
 ______________________________________________________________________________
                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___ year old woman with cough  // pneumonia?

 COMPARISON:  ___

 FINDINGS:

 Heart size is normal.  There is a small
 left effusion.
 LUNGS: clear.

 No pneumothorax, as of ___.

 IMPRESSION:

 1. Small left effusion.
 2. No pneumonia.

 NOTIFICATION:  ___ was told by phone.
'''.replace('\n\n', '\n \n')   # its empty lines hold a space


def covered(text):
  parts = sections.split(text)
  assert parts[0].start == 0 and parts[-1].end == len(text)
  assert all(a.end == b.start for a, b in zip(parts, parts[1:]))
  assert all(p.start <= p.body <= p.end for p in parts)
  assert all(text[p.body:p.end].strip() == p.text for p in parts)
  return parts


def named(text):
  return [(part.name, part.text) for part in covered(text)]


def test_a_report_of_mimic():
  found = sections.sections(MIMIC)
  assert list(found) == ['wet_read', 'examination', 'indication', 'comparison',
                         'findings', 'impression', 'notification']
  assert found['examination'] == 'CHEST (PA AND LAT)'
  assert found['comparison'] == '___'
  assert found['findings'] == (
      'Heart size is normal.  There is a small\n left effusion.\n LUNGS: '
      'clear.\n \n No pneumothorax, as of ___.')
  assert found['impression'] == '1. Small left effusion.\n 2. No pneumonia.'
  covered(MIMIC)


def test_the_same_report_on_one_line():
  found = sections.sections(' '.join(MIMIC.split()))
  assert found['indication'].startswith('___ year old woman')
  assert found['comparison'] == '___'
  assert found['impression'] == '1. Small left effusion. 2. No pneumonia.'


@pytest.mark.parametrize('text,expected', [
    ('', [('preamble', '')]),
    ('No head at all.', [('preamble', 'No head at all.')]),
    ('Findings: clear Impression: normal',
     [('findings', 'clear'), ('impression', 'normal')]),
    ('**Findings:** clear\n\n## Impression\nnormal',
     [('findings', 'clear'), ('impression', 'normal')]),
    ('FINDINGS\r\nclear\r\nIMPRESSION\r\nnormal',
     [('findings', 'clear'), ('impression', 'normal')]),
    ('Cough. Comparison: None. Technique: PA.',
     [('preamble', 'Cough.'), ('comparison', 'None.'), ('technique', 'PA.')]),
    ('FINDINGS AND IMPRESSION: as before',
     [('findings_and_impression', 'as before')]),
    ('FINDINGS/IMPRESSION: as before',
     [('findings_and_impression', 'as before')]),
    ('PROVISIONAL FINDINGS IMPRESSION (PFI): clear',
     [('findings_and_impression', 'clear')]),
    ('IMPRESSION:  AP chest compared to ___:\n Clear.',
     [('impression', 'AP chest compared to ___:\n Clear.')]),
    ('IMPRESSION AP CHEST: clear', [('impression', 'clear')]),
    ('FINDINGS:___ is seen', [('findings', '___ is seen')]),
    ('Findings：clear', [('findings', 'clear')]),
    ('CHEST, PA AND LATERAL:\n\nINDICATION: cough',
     [('examination', ''), ('indication', 'cough')]),
    ('PORTABLE CHEST: Lungs are clear.\nIMPRESSION: normal',
     [('findings', 'Lungs are clear.'), ('impression', 'normal')]),
    ('FINDINGS: see below\nCHEST: clear\nABDOMEN: clear',
     [('findings', 'see below\nCHEST: clear\nABDOMEN: clear')]),
    ('REASON FOR EXAM: cough\nClinical History: asthma',
     [('indication', 'cough'), ('indication', 'asthma')]),
    ('NARRATIVE:\nRADIOGRAPHIC EXAMINATION OF THE CHEST: 1 view\nEND OF '
     'IMPRESSION:\nSUMMARY: 2',
     [('narrative', ''), ('examination', '1 view'), ('end_of_impression', ''),
      ('summary', '2')]),
    ('ADDENDUM  read again\nADDENDUM: again\nRECOMMENDATION(S): CT',
     [('preamble', 'ADDENDUM  read again'), ('addendum', 'again'),
      ('recommendation', 'CT')]),
    ('Klinische Angaben: Husten\nBefund:\nKein Erguss.\nBeurteilung: Normal.',
     [('indication', 'Husten'), ('findings', 'Kein Erguss.'),
      ('impression', 'Normal.')]),
    ('Befund und Beurteilung: unauffällig',
     [('findings_and_impression', 'unauffällig')])])
def test_layouts(text, expected):
  assert named(text) == expected


@pytest.mark.parametrize('text', [
    'in comparison: larger', 'no relevant history: none', 'Date of comparison',
    'the findings are as before', 'comparisons were made: none',
    'Unremarkable.\n1. Comparison: older film', 'prehistory: long',
    'shown to the impression: faint', 'history'])
def test_words_in_a_sentence_are_no_heads(text):
  assert [part.name for part in covered(text)] == ['preamble']


def test_sections_of_one_name_are_joined():
  assert sections.sections('HISTORY: a\nFINDINGS: b\nINDICATION: c') == {
      'indication': 'a\n\nc', 'findings': 'b'}


def test_nothing_is_lost_of_any_text():
  rng = random.Random(0)
  heads = [h for some in sections.HEADS.values() for h in some]
  rest = ['\n', ' ', ':', '**', '___', '. ', 'lung ', 'FINAL REPORT', '1. ',
          'CHEST, AP:', '\r\n', '\t', '：', 'ß', '-']
  for _ in range(2000):
    pieces = [rng.choice((str.upper, str.title, str.lower))(rng.choice(heads))
              if rng.random() < .4 else rng.choice(rest)
              for _ in range(rng.randrange(12))]
    text = ''.join(pieces)
    parts = covered(text)
    assert ''.join(text[p.start:p.body] + text[p.body:p.end]
                   for p in parts) == text


@pytest.mark.parametrize('piece', [
    'FINDINGS ', 'FINDINGS:', 'A', '\n', ' ', '#', '1. ', '_', 'A (',
    'Findings ', 'reason for ', 'FINAL REPORT ', '.:', 'findings and  '])
def test_hostile_texts_come_to_an_end(piece):
  covered(piece * (200_000 // len(piece)))   # quadratic work takes minutes


# XML.

IU = b'''<?xml version="1.0" encoding="utf-8"?>
<eCitation><meta type="rr"/><uId id="CXR1"/><MedlineCitation><Article><Abstract>
<AbstractText Label="COMPARISON">None.</AbstractText>
<AbstractText Label="INDICATION">Cough &amp; fever</AbstractText>
<AbstractText Label="FINDINGS">The heart is normal.
  Clear <i>lungs</i>.</AbstractText>
<AbstractText Label="IMPRESSION"/>
<AbstractText Label="Other">x</AbstractText>
</Abstract></Article></MedlineCitation></eCitation>'''


def test_an_abstract_of_iu_xray():
  assert sections.from_xml(IU) == {
      'comparison': 'None.', 'indication': 'Cough & fever',
      'findings': 'The heart is normal.\n  Clear lungs.', 'other': 'x'}


@pytest.mark.parametrize('data,message', [
    (b'', 'well-formed'), (b'<a>', 'well-formed'), (b'<a/>', 'AbstractText'),
    (IU[:300], 'well-formed'), (b'<a>' * 100, 'deep'),
    (b' ' * (1 << 21), 'bytes'),
    (b'<?xml version="1.0" encoding="nonsense"?><a/>', 'well-formed'),
    (b'<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
     b'<AbstractText>&e;</AbstractText>', 'document type'),
    (b'<!DOCTYPE a SYSTEM "http://localhost/a.dtd"><AbstractText>x'
     b'</AbstractText>', 'document type'),
    (b'<AbstractText>&e;</AbstractText>', 'well-formed')])
def test_damaged_and_hostile_files_are_refused(data, message):
  with pytest.raises(ValueError, match=message):
    sections.from_xml(data)
