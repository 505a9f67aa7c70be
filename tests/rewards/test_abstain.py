"""What is said instead of an answer, and what only looks like it."""


import pytest

from medrl import types
from medrl.rewards import abstain
from tests import soon


@pytest.mark.parametrize('text, why', [
    ('N/A', "MedCalc's own word"), ('n/a.', 'case and full stop'),
    ('NA', 'in capitals alone'), ('N.A.', 'with points'),
    ("I don't know", 'plain'), ('I don’t know.', 'a curly apostrophe'),
    ('I do not know the answer', 'an object'), ("don't know", 'no subject'),
    ('I really don’t know', 'an adverb'), ('**I cannot tell**', 'markup'),
    ("Sorry, I don't know.", 'politeness'), ('I am not sure', 'unsure'),
    ("I'm not certain which lobe", 'a question after it'),
    ('unknown', 'one word'), ('The answer is unknown', 'announced'),
    ('It cannot be determined', 'passive'),
    ('Cannot be determined from the image.', 'what it lacks'),
    ('The BMI cannot be calculated without the height', 'a missing value'),
    ('The free water deficit cannot be reliably computed', 'an adverb'),
    ('This can not be assessed', 'two words'),
    ('unable to determine', 'no subject'),
    ('I am unable to answer this question', 'with one'),
    ('It is impossible to tell from one view', 'impossible'),
    ('Not enough information', 'plain'),
    ('insufficient data', 'another word'),
    ('There is not enough clinical information to answer', 'an adjective'),
    ("I don't have enough information", 'have'),
    ('not available', 'plain'), ('not applicable', 'plain'),
    ('No idea', 'colloquial'), ('  \n N/A \n', 'white space'),
    ('Ｎ／Ａ', 'full width'),
    ('I don’t know, because the view is cut off', 'a reason'),
    ('不知道', 'Chinese'), ('我不知道。', 'with subject and stop'),
    ('无法确定', 'cannot be determined'), ('无法判断，因为图像不清', 'a reason'),
    ('信息不足', 'too little said'), ('抱歉，我不清楚', 'politeness'),
    ('The answer is: N/A', 'a colon after the cue'),
    ('The answer is: **N/A**.', 'GPT-4o, in bold'),
    ('**Answer:** N/A', 'the cue in bold'), ('**Answer**: N/A', 'its word'),
    ('Therefore, the answer is:\n\nN/A', 'GPT-4o, on a line of its own'),
    ('The final answer is NA.', 'in capitals, announced'),
    ('答案是：不知道', 'a Chinese cue'), ('Answer：N/A', 'a full-width colon'),
    ('\\boxed{N/A}', 'boxed'), ('$\\boxed{\\text{N/A}}$.', 'as LaTeX has it'),
    ('\\[ \\boxed{N/A} \\]', 'as a formula'),
    ('The answer is \\boxed{N/A}.', 'announced and boxed'),
    ('{"answer": "N/A"}', 'JSON'),
    ('```json\n{"answer": "I don\'t know"}\n```', 'fenced JSON'),
    ('{"answer": "\\u4e0d\\u77e5\\u9053"}', 'JSON with escapes'),
])
def test_abstentions(text, why):
  found = abstain.found(text)
  assert found is not None and found.value == types.UNANSWERABLE, why
  assert text[slice(*found.span)] == text.strip(), why


@pytest.mark.parametrize('text, why', [
    ('', 'nothing said'), ('5', 'a value'), ('no', 'an answer'),
    ('normal', 'an answer'), ('none', 'an empty set, for some questions'),
    ('maybe', 'an answer to some questions'),
    ("I don't know, but it is probably pneumonia", 'a hedge with an answer'),
    ("I don't know. The answer is B", 'an answer after all'),
    ('I cannot tell; I guess left', 'a guess'),
    ("I don't know 5", 'a value after it'),
    ("I don't know: B", 'a letter after it'),
    ('unknown primary tumour', 'a diagnosis'),
    ('carcinoma of unknown origin', 'a diagnosis'),
    ('Na', 'sodium'), ('N/A 5', 'a value after it'),
    ('knowledge', 'inside a word'), ('n/a-b', 'inside a word'),
    ('uncertain', 'a state of a finding'),
    ('I know', 'the opposite'), ('not', 'cut off'),
    ('it is not possible', 'an answer'),
    ('不知道，可能是肺炎', 'a hedge'), ('不知道5', 'a value after it'),
    ('3 or N/A', 'a value before it'),
    ('The answer is 3 or N/A', 'the same, announced'),
    ('\\boxed{3 or N/A}', 'the same, boxed'),
    ('\\boxed{3} N/A', 'a value boxed beside it'),
    ('\\boxed{N/A} \\boxed{3}', 'two boxes'), ('\\boxed{N/A', 'cut off'),
    ('\\boxed{N/A} 3', 'a value behind the box'),
    ('3. The answer is N/A', 'a value before the cue'),
    ('The answer is: N/A\nThe answer is: 3', 'cues at odds'),
    ('The answer is:', 'cut off'), ('The answer is Na', 'sodium'),
    ('{"answer": "N/A", "value": 3}', 'a value beside it'),
    ('{"answer": "N/A", "answer": "3"}', 'JSON with a key twice'),
    ('{"answer": null}', 'what null means was not said'),
    ('{"answer": ["N/A"]}', 'a list of labels'),
    ('{"unit": "N/A"}', 'something else is not available'),
    ('```json\n{"answer": "N/A"', 'cut off'),
    ('确定', 'the opposite'), ('x' * 401, 'too long to be one'),
    ("I don't know " + 'the ' * 200, 'too long to be one'),
])
def test_what_is_no_abstention(text, why):
  assert abstain.found(text) is None, why


@pytest.mark.parametrize('gold, content, expected', [
    ('N/A', 'N/A', 1.0), ('N/A', '5', 0.0), (5, 'N/A', -1.0), (5, '5', 0.0),
    (5, '6', 0.0)])
def test_score_is_about_abstaining_alone(gold, content, expected):
  record = types.Record(id='r', question='', answer=gold, answer_type='float')
  score = abstain.score(
      record, [types.Completion(f'<answer>{content}</answer>')], {})
  assert score.total == (expected,) and score.parsed == (True,)


def test_score_options_and_what_is_unparsed():
  record = types.Record(id='r', question='', answer=5, answer_type='float')
  texts = [types.Completion(t) for t in ('N/A', '<answer>N/A</answer>')]
  score = abstain.score(record, texts, {}, wrong=-0.5)
  assert score.total == (0.0, -0.5) and score.parsed == (False, True)
  hidden = types.Record(id='r', question='', answer=None, answer_type='float')
  with pytest.raises(ValueError, match="'r' has no answer"):
    abstain.score(hidden, texts, {})


@pytest.mark.parametrize('text, expected, why', [
    ('edema', 'edema', 'nothing to take off'), ('', '', 'nothing'),
    (' **edema**. ', 'edema', 'emphasis and a full stop'),
    ('```\n[1]\n```', '[1]', 'fenced'), ('```edema```', 'edema', 'in a line'),
    ('```\na\n```\n```\nb\n```', '```\na\n```\n```\nb\n```', 'two fences'),
    ('So the answer is ```json\n{"answer": "\\\\boxed{a}"}\n```', 'a',
     'one in another'),
    ('{"answer": ["a", "b"]}', '["a", "b"]', 'JSON that is no text'),
    ('{"Answer": {"a": 1}}', '{"a": 1}', 'an object'),
    ('{"other": 1}', '{"other": 1}', 'another object'),
    ('\\boxed{a} or \\boxed{b}', '\\boxed{a} or \\boxed{b}', 'not the whole'),
    ('the answer isotope', 'the answer isotope', 'inside a word'),
    ('a. The answer is b', 'a. The answer is b', 'not at the start'),
])
def test_announced(text, expected, why):
  assert abstain.announced(text) == expected, why


@pytest.mark.parametrize('piece', [
    '\\boxed{', '{"answer": ', 'answer: ', '`', '```', '```\n', '*', '. ', '\n',
    'a ', "i don't know ", 'not ', 'the answer is ', 'cannot be ', 'n/', '不',
    '-', '/', ' '])
def test_no_string_takes_long(piece):
  with soon.soon():
    for length in (390, 65536):
      abstain.found((piece * length)[:length])
      abstain.announced((piece * length)[:length])
