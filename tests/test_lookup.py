"""Names in a config become code, or an error that says what there is."""

import json

import pytest

from medrl import lookup


def test_modules_and_attributes_are_found():
  assert lookup.resolve('json') is json
  assert lookup.resolve('json.dumps') is json.dumps
  assert lookup.resolve('json.JSONDecoder.decode') is json.JSONDecoder.decode


@pytest.mark.parametrize('name, says', [
    ('medrl.rl.losses.clp', r"medrl.rl.losses has no 'clp'; did you mean "
     r".*'clip'"),
    ('medrl.rl.loses.clip', r"medrl.rl has no 'loses'; did you mean 'losses'"),
    ('json.dumps.nothing', r"json.dumps has no 'nothing'; it has: "),
    ('no_such_package.f', r"'no_such_package.f'.*PYTHONPATH")])
def test_a_wrong_name_is_told_with_the_nearest(name, says):
  with pytest.raises(ValueError, match=says):
    lookup.resolve(name)


def test_an_import_that_fails_inside_a_module_is_not_a_wrong_name(
    tmp_path, monkeypatch):
  (tmp_path / 'needs_more.py').write_text('import absent_dependency\n')
  monkeypatch.syspath_prepend(tmp_path)
  with pytest.raises(ModuleNotFoundError, match='absent_dependency'):
    lookup.resolve('needs_more.reward')


@pytest.mark.parametrize('known, says', [
    (['clip_high', 'clip_low', 'kl'], "did you mean 'clip_high' or 'clip_low'"),
    (['kl', 'steps'], 'it has: kl, steps')])
def test_nearest_names_what_is_close_or_all(known, says):
  assert says in lookup.nearest('clip_hihg', known)
