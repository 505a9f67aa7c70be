"""Units as they are written in medicine, and how they convert.

Converts within one dimension only: no molar mass, valence or density is
guessed. Only names from the table below reach pint, never text of a model.
Needs pint, which is imported at the first conversion.
"""

import functools
import math
import re
from typing import Any, NamedTuple

from medrl.rewards.parse import spans

# The name here and how it is written, regardless of case; '_' may be a blank.
_WRITTEN = '''
m metre metres meter meters 米
cm cms centimetre centimetres centimeter centimeters 厘米 公分
mm mms millimetre millimetres millimeter millimeters 毫米
um micron microns micrometre micrometres micrometer micrometers 微米
nm nanometre nanometres nanometer nanometers
km kilometre kilometres kilometer kilometers 千米 公里
inch inches in
foot feet ft
french_gauge fr french
kg kgs kilogram kilograms kilo kilos 公斤 千克
g gram grams gm 克
mg mgs milligram milligrams 毫克
ug mcg microgram micrograms 微克
ng nanogram nanograms
pg picogram picograms
pound pounds lb lbs
ounce ounces oz
L litre litres liter liters 升
dL decilitre decilitres deciliter deciliters
cL
mL mls cc millilitre millilitres milliliter milliliters 毫升
uL microlitre microlitres microliter microliters 微升
fL
second seconds sec secs 秒
ms msec millisecond milliseconds 毫秒
minute minutes min mins 分钟 分
hour hours hr hrs 小时
day days 天 日
week weeks wk wks 周 星期
month months mo mos 个月
year years yr yrs 年 岁
mmHg mm_hg 毫米汞柱
water_column cmh2o cm_h2o 厘米水柱
kPa kilopascal kilopascals
Pa pascal pascals
atm
torr
degC °_c ℃ deg_c degrees_c degrees_celsius celsius 摄氏度
degF °_f ℉ deg_f degrees_f degrees_fahrenheit fahrenheit
kelvin
count cells cell beats beat breaths breath counts copies 次 个
Hz hertz
kHz
MHz
mol mole moles
mmol millimole millimoles
umol micromole micromoles
nmol nanomole nanomoles
pmol picomole picomoles
equivalent_charge eq
milliequivalent_charge meq
osmole_amount osm
milliosmole_amount mosm
activity_unit iu unit units 单位
kiloactivity_unit ku kiu
milliactivity_unit mu miu
microactivity_unit uiu uu
power_field hpf
percent % per_cent
degree degrees deg ° 度
radian rad
Gy
cGy
mGy
Sv
mSv
uSv
Bq
kBq
MBq
GBq
mCi
hounsfield hu
mV
kV
mA
kcal
kJ
W
dioptre_power dpt dioptres diopters
decibel_level db
'''
# One letter is a unit in one case only: '5 M' is molar or million.
_LETTERS = {'m': 'm', 'g': 'g', 'l': 'L', 'L': 'L', 's': 'second', 'h': 'hour',
            'd': 'day', 'C': 'degC', 'F': 'degF', 'K': 'kelvin', 'y': 'year',
            'w': 'week', 'U': 'activity_unit', 'D': 'dioptre_power'}
_MOLAR = {'mM': 'mmol', 'uM': 'umol', 'μM': 'umol', 'nM': 'nmol'}
_OWN = ('french_gauge = mm / 3', 'water_column = 98.0665 Pa',
        'equivalent_charge = [charge_equivalents]',
        'osmole_amount = [osmoles]', 'activity_unit = [biological_activity]',
        'power_field = [power_field]', 'hounsfield = [radiodensity]',
        'dioptre_power = 1 / m', 'decibel_level = [decibel_level]')

_POWER = re.compile(
    r'[^\S\n]{0,8}(?:[x×*·]\s?)?10(?:[\^*]\s?\{?(?P<power>-?[0-9]{1,2})\}?'
    r'|(?P<raised>⁻?[⁰¹²³⁴-⁹]{1,2}))')
_EXPONENT = re.compile(
    r'(?:\^\s?\{?(?P<power>-?[1-4])\}?|(?P<raised>⁻?[¹²³])|(?P<plain>[23]))'
    r'(?![0-9]|[.,][0-9])')
_BLANK = re.compile(r'[^\S\n]{0,16}')
_LINK = re.compile(r'(?i:and|to|or|by)\b|[至到]')
_RAISED = str.maketrans('⁰¹²³⁴⁵⁶⁷⁸⁹⁻', '0123456789-')
_JOINT = re.compile(
    r'[^\S\n]{0,8}(?:(?P<per>/|(?i:per)\s|每)|(?P<times>·))[^\S\n]{0,8}')
# A body surface, and a day as laboratories write it.
_FIXED = ((re.compile(r'1[.,]73\s?m(?:\^?2|²)'), 1.73, (('m', 2),)),
          (re.compile(r'24\s?h(?:ours?|rs?)?(?![A-Za-z])'), 1.0, (('day', 1),)))


class Unit(NamedTuple):
  """A scale and the powers of named units, sorted by name."""
  scale: float
  powers: tuple[tuple[str, int], ...]


def read(text: str, start: int) -> tuple[Unit | None, int]:
  """Returns the unit that stands at `start` of a folded text, and its end.

  The end is `start` where there is no unit, and the unit is None with an end
  behind `start` where a word or half a unit stands that is none.
  """
  power = _POWER.match(text, start)
  scale, at = 1.0, start
  if power:
    raised = power['power'] or power['raised'].translate(_RAISED)
    scale, at = 10.0 ** int(raised), power.end()
  powers: dict[str, int] = {}
  joint = _JOINT.match(text, at)
  sign, at = (-1, joint.end()) if joint and joint['per'] else (
      1, _BLANK.match(text, at).end())
  while True:
    atom = _atom(text, at)
    if atom is None:
      bare = not powers and sign > 0 and not power and not _is_word(text, at)
      return None, start if bare else min(at + 1, len(text))
    factor, names, at = atom
    scale *= factor ** sign
    for name, exponent in names:
      powers[name] = powers.get(name, 0) + sign * exponent
    joint = _JOINT.match(text, at)
    if not joint:
      return Unit(scale, tuple(sorted(powers.items()))), at
    sign, at = (-1 if joint['per'] else 1), joint.end()


def parse(name: str) -> Unit:
  """Returns the unit that a question asks for, such as 'mg/dL'.

  Raises:
    ValueError: it is not a unit that the table knows.
  """
  text = spans.fold(name.strip())
  unit, end = read(text, 0)
  if unit is None or end != len(text):
    raise ValueError(
        f'unit {name!r} is unknown; expected units such as mm, cm^2, mg/dL, '
        'mmol/L, mmHg, bpm, 10^9/L, %, mL/min/1.73 m2 (see parse/units.py)')
  return unit


@functools.lru_cache(maxsize=1024)
def _line(powers: tuple, wanted: tuple) -> tuple[float, float] | None:
  """Returns (factor, offset) of a conversion, None between dimensions."""
  registry = _registry()
  source, target = (
      registry.UnitsContainer(dict(names)) for names in (powers, wanted))
  try:
    zero, one = (registry.Quantity(float(v), source).to(target).magnitude
                 for v in (0, 1))
  except (TypeError, OverflowError):  # pint's errors of dimension are both
    return None
  return one - zero, zero


def convert(value: float, unit: Unit, wanted: Unit) -> float | None:
  """Returns `value` in the unit `wanted` to 12 digits.

  None if the units differ in dimension or the value is not finite.

  Raises:
    ImportError: pint is not installed.
  """
  line = (1.0, 0.0) if unit.powers == wanted.powers else _line(
      unit.powers, wanted.powers)
  if line is None:
    return None
  found = (value * unit.scale * line[0] + line[1]) / wanted.scale
  return float(f'{found:.12g}') if math.isfinite(found) else None


def _atom(text: str, at: int) -> tuple[float, tuple, int] | None:
  """Returns (scale, powers, end) of one unit and its exponent."""
  for pattern, scale, powers in _FIXED:
    match = pattern.match(text, at)
    if match:
      return scale, powers, match.end()
  match = _pattern().match(text, at)
  if not match or (match[0].lower() == 'in' and _is_word(
      text, match.end() + 1)):  # '5 in the liver'
    return None
  powers, end, exponent = _names()[_key(match[0])], match.end(), 1
  raised = _EXPONENT.match(text, end)
  if raised:
    exponent = int(raised['power'] or raised['plain'] or
                   raised['raised'].translate(_RAISED))
    end = raised.end()
  return 1.0, tuple((name, p * exponent) for name, p in powers), end


def _is_word(text: str, at: int) -> bool:
  """Whether something stands there that says what the number counts."""
  return (text[at:at + 1].isalpha() or text[at:at + 1] in tuple('°%^_\\²³‰')
          ) and not _LINK.match(text, at)


def _key(written: str) -> str:
  written = written.replace('μ', 'u') if len(written) > 1 else written
  if written in _LETTERS or written in _MOLAR:
    return written
  return re.sub(r'\s', '', written.lower())


@functools.cache
def _names() -> dict[str, tuple[tuple[str, int], ...]]:
  """Returns key -> powers of every written unit."""
  names = {letter: ((name, 1),) for letter, name in _LETTERS.items()}
  for line in _WRITTEN.split('\n'):
    name, *written = line.split() or ('',)
    for word in (name, *written):
      word = word.replace('_', '').lower()
      if len(word) > 1 or not word.isascii() or word == '%':
        names[word] = ((name, 1),)
  names |= {word: ((name, 1), ('L', -1)) for word, name in _MOLAR.items()}
  return names | {'bpm': (('count', 1), ('minute', -1))}


@functools.cache
def _pattern() -> re.Pattern:
  """Returns what matches the longest written unit, as a word."""
  words = {word.replace('_', r'\s?').lower() for word in _WRITTEN.split()
           if len(word) > 1 or not word.isascii() or word == '%'} | {'bpm'}
  words |= {'μ' + word[1:] for word in words
            if word[0] == 'u' and not word.startswith('unit')}
  longest = '|'.join(sorted(words, key=len, reverse=True))
  exact = '|'.join([*_MOLAR, *_LETTERS])
  word = r'(?:(?<![A-Za-z])|(?![A-Za-z]))'   # ends, or is Chinese
  return re.compile(f'(?:(?:{"|".join(_MOLAR)})|(?i:{longest})|(?:{exact}))'
                    f'{word}')


@functools.cache
def _registry() -> Any:
  """Returns pint's registry with our units; building it takes half a second.

  Raises:
    ImportError: pint is not installed.
  """
  try:
    import pint
  except ImportError as error:
    raise ImportError('units need pint; install with: pip install -r '
                      'launch/requirements-rewards.txt') from error
  registry = pint.UnitRegistry(cache_folder=None)
  for definition in _OWN:
    registry.define(definition)
  return registry
