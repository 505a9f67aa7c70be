import pytest

from medrl.data import missing
from medrl.data import tabular

HOME = dict(name='VQA-RAD', where='Hugging Face data set owner/vqa-rad',
            licence='CC0 1.0', layout='data/{train,test}-*.parquet')


@pytest.mark.parametrize('make_root', [True, False])
def test_says_what_to_get_and_how_to_lay_it_out(tmp_path, make_root):
  root = tmp_path if make_root else tmp_path / 'none'
  with pytest.raises(FileNotFoundError) as caught:
    list(tabular.records(root, 'test', file='a.json', fields={}, home=HOME))
  for word in (*HOME.values(), 'Nothing is downloaded', str(root)):
    assert word in str(caught.value)
  assert ('data root' in str(caught.value).split(';')[0])


def test_a_pattern_without_files(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'test-\*'):
    list(tabular.records(tmp_path, 'test', file='test-*.json', fields={}))


@pytest.mark.parametrize('given, words', [
    ({**HOME, 'license': 'x'}, "did you mean 'licence'"),
    ({'name': 'x'}, "lacks")])
def test_a_wrong_home(given, words):
  with pytest.raises(ValueError, match=words):
    missing.home(given)


def test_no_home():
  assert missing.home(None) is missing.home({}) is None
