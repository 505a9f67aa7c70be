"""Shares of letters by hand."""

import unicodedata

import pytest

from medrl import types
from medrl.rewards import language

RECORD = types.Record(id='r', question='', answer=None, answer_type='text')


def share(text, wanted):
  return language.share(RECORD, [types.Completion(text)], {},
                        wanted=wanted).total[0]


@pytest.mark.parametrize('text, wanted, expected, why', [
    ('No effusion.', ('latin',), 1.0, 'English'),
    ('No effusion.', 'en', 1.0, 'a code for its script'),
    ('无胸腔积液', 'zh', 1.0, 'Chinese'),
    ('无胸腔积液', 'en', 0.0, 'not Latin'),
    ('心 CT', 'zh', 1 / 3, 'one of three letters'),
    ('心 CT', ('zh', 'latin'), 1.0, 'quoting is allowed where wanted'),
    ('<think>无</think><answer>有</answer>', 'zh', 1.0, 'tags are no letters'),
    ('5 µm, 37 °C', 'zh', 0.0, 'm and C are letters, µ is a unit'),
    ('5 µm', 'en', 1.0, 'µ is a unit in every script'),
    ('naïve Größe', 'en', 1.0, 'accents'),
    ('Ａ', 'latin', 1.0, 'full width'),
    ('ひらがなカタカナ漢字', 'ja', 1.0, 'two scripts of one language'),
    ('ひらがな漢', 'zh', 0.2, 'kana is not Chinese'),
    ('Норма', 'ru', 1.0, 'Cyrillic'), ('폐렴 없음', 'ko', 1.0, 'Korean'),
    ('αβ', 'el', 1.0, 'Greek'), ('رئة', 'ar', 1.0, 'Arabic'),
    ('ריאה', 'he', 1.0, 'Hebrew'), ('ปอด', 'th', 1.0, 'Thai'),
    ('Nоrmal', 'en', 5 / 6, 'a Cyrillic o does not pass for a Latin one'),
    ('42 +/- 3', 'en', 0.0, 'no letters: in no language'),
    ('', 'en', 0.0, 'nothing'), ('\ud800\x00', 'en', 0.0, 'no letters'),
])
def test_share(text, wanted, expected, why):
  assert share(text, wanted) == pytest.approx(expected), why


@pytest.mark.parametrize('script, name', [
    ('latin', 'LATIN'), ('greek', 'GREEK'), ('cyrillic', 'CYRILLIC'),
    ('hangul', 'HANGUL'), ('thai', 'THAI'), ('hebrew', 'HEBREW'),
    ('devanagari', 'DEVANAGARI'), ('han', 'CJK UNIFIED')])
def test_ranges_hold_the_letters_that_unicode_names_so(script, name):
  letters = [c for c in map(chr, range(0x10000)) if c.isalpha()
             and unicodedata.name(c, '').startswith(name + ' ')]
  inside = share(''.join(letters), script)
  # Letters of rare extensions and phonetics lie elsewhere.
  assert inside > (0.6 if script == 'latin' else 0.9)
  others = ''.join(c for c in map(chr, range(0x10000)) if c.isalpha()
                   and name.split()[0] not in unicodedata.name(c, ''))
  assert share(others, script) < 0.01


@pytest.mark.parametrize('wanted', ['klingon', ('latin', 'hann'), ()])
def test_unknown(wanted):
  with pytest.raises(ValueError, match='wanted'):
    share('a', wanted)
