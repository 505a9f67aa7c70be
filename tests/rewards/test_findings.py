"""Findings read out of single sentences, each with the reason for its label.

'eff- ptx?' says pleural effusion is denied and pneumothorax is uncertain.
"""

import itertools
import random

import pytest

from medrl.rewards import findings
from tests import soon

CHEST = {
    'ecm': 'Enlarged Cardiomediastinum', 'car': 'Cardiomegaly',
    'opa': 'Lung Opacity', 'les': 'Lung Lesion', 'ede': 'Edema',
    'con': 'Consolidation', 'pna': 'Pneumonia', 'ate': 'Atelectasis',
    'ptx': 'Pneumothorax', 'eff': 'Pleural Effusion', 'plo': 'Pleural Other',
    'fra': 'Fracture', 'dev': 'Support Devices', 'nf': 'No Finding'}
NECK = {
    'plq': 'Plaque', 'cal': 'Calcified Plaque', 'sof': 'Soft Plaque',
    'mix': 'Mixed Plaque', 'ulc': 'Ulcerated Plaque',
    'imt': 'Intima-Media Thickening', 'ste': 'Stenosis',
    'mil': 'Mild Stenosis', 'mod': 'Moderate Stenosis',
    'sev': 'Severe Stenosis', 'sig': 'Significant Stenosis',
    'occ': 'Occlusion', 'dis': 'Dissection', 'thr': 'Thrombus',
    'ste4': 'Subclavian Steal', 'flo': 'Normal Flow', 'nf': 'No Finding'}
SIGNS = {'+': 'positive', '-': 'negative', '?': 'uncertain'}


def expected(codes, names):
  return {names[c[:-1]]: SIGNS[c[-1]] for c in codes.split()}


def read(text, lexicon='chexpert', derived=False):
  found = findings.states(text, lexicon)
  return {k: v for k, v in found.items() if derived or k != 'No Finding'}


AFFIRMED = [
    ('There is a small left pleural effusion.', 'eff+', 'plain'),
    ('PLEURAL EFFUSION', 'eff+', 'capitals'),
    ('Atelectasis and effusion at the left base.', 'ate+ eff+', 'two'),
    ('Pulmonary nodule in the right upper lobe.', 'les+', 'synonym'),
    ('A 1.2 cm nodule.', 'les+', 'a decimal point ends no sentence'),
    ('Airspace disease on the right.', 'opa+', 'synonym'),
    ('Pulmonary vascular congestion.', 'ede+', 'counted as edema'),
    ('Pleural thickening.', 'plo+', 'pleura, not effusion'),
    ('Endotracheal tube tip is 4 cm above the carina.', 'dev+', 'device'),
    ('Pacemaker leads are in unchanged position.', 'dev+', 'device'),
    ('Healed rib fractures.', 'fra+', 'plural; healed is still seen'),
    ('Non-displaced rib fracture.', 'fra+', 'non- denies the displacement'),
    ('Bilateral pneumothoraces.', 'ptx+', 'Greek plural'),
    ('Mild cardiomegaly is unchanged.', 'car+', 'unchanged means present'),
    ('Effusion is improved.', 'eff+', 'improved is not gone'),
    ('Pleural effusion has decreased.', 'eff+', 'decreased is not gone'),
    ('Effusion: present.', 'eff+', 'colon and predicate'),
    ('Pulmonary oedema.', 'ede+', 'British'),
    ('Consolidation\nin the left\nlower lobe.', 'con+', 'wrapped lines'),
]
DENIED = [
    ('No effusion or pneumothorax.', 'eff- ptx-', 'no reaches over or'),
    ('No pleural effusion, pneumothorax, or focal consolidation is seen.',
     'eff- ptx- con-', 'no reaches over a list'),
    ('No cardiomegaly, effusion or pneumothorax.', 'car- eff- ptx-', 'list'),
    ('No focal consolidation, large effusion, or pneumothorax.',
     'con- eff- ptx-', 'an adjective inside a list that goes on'),
    ('No consolidation and edema.', 'con- ede-', 'and joins nouns'),
    ('Without evidence of pneumonia.', 'pna-', 'two cues, one denial'),
    ('Without cardiomegaly or edema.', 'car- ede-', 'without'),
    ('Neither effusion nor pneumothorax is seen.', 'eff- ptx-', 'neither nor'),
    ('Neither lung shows consolidation.', 'con-', 'neither alone'),
    ('Negative for pneumonia.', 'pna-', 'negative for'),
    ('Absence of pleural effusion.', 'eff-', 'absence of'),
    ('Lungs are free of consolidation.', 'con-', 'free of'),
    ('Lungs are clear of consolidation.', 'con-', 'clear of X names X only'),
    ("There isn't an effusion.", 'eff-', "n't"),
    ('There isn\u2019t an effusion.', 'eff-', 'typographic apostrophe'),
    ("This doesn't show a pneumothorax.", 'ptx-', "n't before a verb"),
    ('NO  PLEURAL   EFFUSION', 'eff-', 'capitals and spaces'),
    ('There is no\npleural effusion.', 'eff-', 'a wrapped line goes on'),
    ('No rib fracture.', 'fra-', 'site word between'),
    ('No acute fracture.', 'fra-', 'adjective between'),
    ('No 1.2 cm nodule.', 'les-', 'number with a point between'),
    ('No opacities.', 'opa-', 'plural'),
    ('No suspicious pulmonary nodules.', 'les-', 'hedge inside a denial'),
    ('No definite pneumothorax.', 'ptx-', 'as labellers count it'),
    ('No new effusion.', 'eff-', 'as labellers count it'),
    ('No findings to suggest pneumonia.', 'pna-', 'denied suggestion'),
    ('No evidence suggestive of edema.', 'ede-', 'denied suggestion'),
    ('No focal airspace opacity to suggest pneumonia.', 'opa- pna-',
     'both in the scope of no'),
    ('No pneumonia is suspected.', 'pna-', 'denied suspicion'),
    ('No pacemaker.', 'dev-', 'device'),
    ('No pericardial or pleural effusion.', 'eff-', 'shared noun'),
    ('There is no longer a pneumothorax.', 'ptx-', 'no longer'),
    ('Resolution of the pulmonary edema.', 'ede-', 'resolution of'),
    ('The resolved effusion.', 'eff-', 'resolved before the noun'),
    ('The effusion has resolved.', 'eff-', 'resolved after it'),
    ('Effusion, previously moderate, has resolved.', 'eff-', 'parenthesis'),
    ('Left lower lobe pneumonia has cleared.', 'pna-', 'cleared'),
    ('Pneumothorax has been excluded.', 'ptx-', 'denied afterwards'),
    ('Pneumothorax and effusion have been ruled out.', 'ptx- eff-',
     'denied afterwards, over and'),
    ('Effusion and pneumothorax are not seen.', 'eff- ptx-', 'likewise'),
    ('Pneumothoraces are not identified.', 'ptx-', 'not identified'),
    ('The previously seen pneumothorax is no longer visualized.', 'ptx-',
     'gone'),
    ('Effusions are absent.', 'eff-', 'absent'),
    ('Pneumothorax: none.', 'ptx-', 'list style'),
    ('Pneumothorax (none).', 'ptx-', 'in brackets'),
    ('Pleural effusion: no.', 'eff-', 'list style'),
    ('The endotracheal tube has been removed.', 'dev-', 'removed'),
]
BORDERS = [
    ('No effusion, but a moderate pneumothorax is present.', 'eff- ptx+',
     'but ends the scope'),
    ('No pneumothorax; small effusion persists.', 'ptx- eff+', 'semicolon'),
    ('No pneumothorax. Small effusion.', 'ptx- eff+', 'full stop'),
    ('no pneumothorax . small effusion .', 'ptx- eff+', 'tokenised reports'),
    ('No pneumothorax\n\nSmall effusion', 'ptx- eff+', 'blank line'),
    ('- No pneumothorax\n- Effusion', 'ptx- eff+', 'bullets'),
    ('No pneumothorax\nEffusion on the left', 'ptx- eff+',
     'a capital begins a line'),
    ('Although there is no pneumothorax, a small effusion remains.',
     'ptx- eff+', 'an article after the comma begins a clause'),
    ('No pneumothorax, small left effusion.', 'ptx- eff+',
     'a grade after the comma, and no list goes on'),
    ('No pneumothorax and a small effusion.', 'ptx- eff+', 'and a'),
    ('No pneumothorax and there is cardiomegaly.', 'ptx- car+', 'there is'),
    ('No pneumothorax or effusion, with stable cardiomegaly.',
     'ptx- eff- car+', ', with'),
    ('No edema with small effusions.', 'ede- eff+', 'with and a grade'),
    ('No pneumothorax status post chest tube placement.', 'ptx- dev+',
     'status post'),
    ('Removal of the chest tube with no pneumothorax.', 'dev- ptx-',
     'each has its own cue'),
    ('No acute disease except for cardiomegaly.', 'car+', 'except'),
    ('No acute process apart from a fracture.', 'fra+', 'apart from'),
    ('Unchanged effusion without pneumothorax.', 'eff+ ptx-', 'forward only'),
    ('Pneumonia, no effusion.', 'pna+ eff-', 'forward only'),
    ('Effusion is stable and pneumothorax is not seen.', 'eff+ ptx-',
     'a verb ends the reach of not seen'),
    ('Pleural effusion has decreased and pneumothorax has resolved.',
     'eff+ ptx-', 'likewise'),
    ('Effusion resolved and pneumothorax persists.', 'eff- ptx+',
     'and ends the reach of resolved'),
    ('No evidence of pneumonia or other acute process; heart enlarged.',
     'pna- car+', 'semicolon'),
    ('Findings: no effusion Impression: pneumonia', 'eff- pna+',
     'a heading ends the scope'),
    ('Effusion (no pneumothorax) and edema.', 'eff+ ptx- ede+',
     'a bracket ends it'),
    ('Pneumonia. No pneumonia.', 'pna+', 'positive wins'),
    ('Possible pneumonia. No pneumonia on the left.', 'pna?',
     'uncertain beats negative'),
]
HEDGED = [
    ('Cannot exclude pneumonia.', 'pna?', 'not a denial'),
    ('Can not rule out pneumonia.', 'pna?', 'not a denial'),
    ('Pneumothorax cannot be excluded.', 'ptx?', 'not a denial'),
    ('Pneumothorax has not been excluded.', 'ptx?', 'not a denial'),
    ('No pneumothorax, effusion cannot be excluded.', 'ptx- eff?',
     'the nearer cue wins'),
    ('A small pneumothorax would be difficult to exclude.', 'ptx?', 'open'),
    ('CT is recommended to rule out fracture.', 'fra?', 'open'),
    ('Cardiomegaly is mild; edema is not excluded.', 'car+ ede?', 'open'),
    ('Possible left basilar atelectasis.', 'ate?', 'possible'),
    ('Opacity may represent pneumonia.', 'opa+ pna?', 'may represent'),
    ('Increased opacity, which could reflect pneumonia.', 'opa+ pna?', 'could'),
    ('Bibasilar opacities, likely atelectasis.', 'opa+ ate?', 'likely'),
    ('Likely small pleural effusion.', 'eff?', 'likely'),
    ('Suspicious for pneumonia.', 'pna?', 'suspicious for'),
    ('Findings are concerning for pneumonia.', 'pna?', 'concerning'),
    ('Concern for aspiration pneumonia and edema.', 'pna? ede?',
     'and carries the hedge to a bare noun'),
    ('Possible effusion and stable cardiomegaly.', 'eff? car+',
     'a new statement after and'),
    ('Possible pneumonia, cardiomegaly.', 'pna? car+', 'comma ends a hedge'),
    ('This may represent atelectasis, pneumonia, or edema.',
     'ate? pna? ede?', 'unless a list goes on'),
    ('There is a possibility of infection.', 'pna?', 'possibility of'),
    ('Question of a right apical pneumothorax.', 'ptx?', 'question of'),
    ('? pneumothorax', 'ptx?', 'a mark in front'),
    ('Equivocal pneumothorax.', 'ptx?', 'equivocal'),
    ('It is not clear whether there is a pneumothorax.', 'ptx?',
     'not clear whether'),
    ('Pneumothorax is unlikely.', 'ptx?', 'a low chance is not a denial'),
    ('Pneumonia is less likely.', 'pna?', 'likewise'),
    ('Pneumonia is possible.', 'pna?', 'hedged afterwards'),
    ('Probably no effusion.', 'eff?', 'a hedged denial'),
    ('Atelectasis versus pneumonia.', 'ate? pna?', 'one of the two'),
    ('Atelectasis or pneumonia at the left base.', 'ate? pna?',
     'an affirmed or'),
    ('Small effusion vs. pleural thickening.', 'eff? plo?', 'vs.'),
    ('This is atelectasis rather than pneumonia.', 'ate+ pna?', 'rather'),
    ('Blunting of the left costophrenic angle.', 'eff?', 'a sign only'),
    ('Borderline cardiomegaly.', 'car?', 'borderline'),
]
TRAPS = [
    ('No change in effusion.', 'eff+', 'the change is denied'),
    ('No significant interval change in the right pleural effusion.',
     'eff+', 'likewise'),
    ('No increase in effusion.', 'eff+', 'the increase is denied'),
    ('No worsening edema.', 'ede+', 'likewise'),
    ('No pneumothorax, no change in effusion.', 'ptx- eff+', 'each its own'),
    ('No doubt there is pneumonia.', 'pna+', 'no doubt affirms'),
    ('Not only effusion but also pneumothorax.', 'eff+ ptx+', 'not only'),
    ('Not without effusion.', 'eff+', 'double negation'),
    ('The lungs are not free of consolidation.', 'con+', 'double negation'),
    ('Pneumothorax is not absent.', 'ptx+', 'double negation'),
    ('The pneumothorax has not resolved.', 'ptx+', 'double negation'),
    ('Interstitial edema is improved but not resolved.', 'ede+', 'likewise'),
    ('Partially resolved pneumothorax.', 'ptx+', 'not gone'),
    ('Nearly resolved effusion.', 'eff+', 'not gone'),
    ('History of pneumonia.', '', 'not in this image'),
    ('Evaluate for pneumothorax.', '', 'a question, not a finding'),
    ('If pneumonia is suspected clinically, repeat the radiograph.', '',
     'a condition'),
    ('Pericardial effusion.', '', 'another organ'),
    ('nopneumothorax', '', 'words, not letters'),
    ('The man has a massive headache.', '', 'mass inside a word'),
    ('Scattered comments about the effusive host.', '', 'effusive'),
    ('', '', 'nothing'), ('....', '', 'nothing'),
]
STRUCTURES = [
    ('Heart size is normal.', 'car-', 'structure and state'),
    ('The heart is enlarged.', 'car+', 'structure and state'),
    ('The heart is not enlarged.', 'car-', 'denied state'),
    ('Heart size is not normal.', 'car+', 'denied normality'),
    ('The heart may be enlarged.', 'car?', 'hedged state'),
    ('The cardiac silhouette is top normal.', 'car?', 'borderline state'),
    ('Enlargement of the cardiac silhouette.', 'car+', 'state first'),
    ('No enlargement of the heart.', 'car-', 'denied, state first'),
    ('Enlarged heart without edema.', 'car+ ede-', 'adjective'),
    ('Normal heart size, no effusion.', 'car- eff-', 'normal is a denial'),
    ('No effusion, normal heart size.', 'eff- car-', 'no is not for normal'),
    ('No effusion, heart is enlarged.', 'eff- car+', 'a clause of its own'),
    ('No effusion and heart is enlarged.', 'eff- car+', 'likewise'),
    ('Heart and mediastinum are normal.', 'car- ecm-', 'two structures'),
    ('Normal heart and mediastinum.', 'car- ecm-', 'two structures'),
    ('The mediastinum is widened.', 'ecm+', 'widened'),
    ('The cardiomediastinal silhouette is within normal limits.', 'ecm-',
     'of several words'),
    ('The lungs are clear.', 'opa-', 'clear'),
    ('The lungs are not clear.', 'opa+', 'not clear'),
    ('Clear lungs and enlarged heart.', 'opa- car+', 'each its own'),
    ('Lungs unremarkable, heart enlarged.', 'opa- car+', 'each its own'),
    ('Heart stable, normal lungs.', 'opa-', 'normal belongs to the lungs'),
    ('Heart: normal. Lungs: clear.', 'car- opa-', 'list style'),
    ('The cardiac and mediastinal silhouettes are unremarkable.',
     'car- ecm-', 'one phrase for two structures'),
    ('Costophrenic angles are sharp.', 'eff-', 'sharp'),
    ('Heart size normal. Lungs clear. No effusions.', 'car- opa- eff-',
     'three sentences'),
    ('Lungs are hyperinflated without focal consolidation.', 'con-',
     'hyperinflated says nothing of opacity'),
]
WHOLE = [
    ('Lungs are well expanded and clear. Cardiomediastinal and hilar contours '
     'are normal. No pleural effusion or pneumothorax.',
     'opa- ecm- eff- ptx-', 'a normal report'),
    ('Compared to prior, the right pneumothorax is no longer apparent.',
     'ptx-', 'gone'),
    ('Small apical pneumothorax versus skin fold.', 'ptx?',
     'versus something that is no finding'),
    ('Streaky left basilar opacity, probably atelectasis, less likely '
     'pneumonia.', 'opa+ ate? pna?', 'two chances'),
    ('Chest tube has been withdrawn. No pneumothorax.', 'dev- ptx-', 'gone'),
    ('It would be difficult to exclude superimposed pneumonia.', 'pna?',
     'open, in front'),
    ('Heart size remains enlarged, with mild pulmonary edema.', 'car+ ede+',
     'two statements'),
    ('Moderate right pleural effusion is increased, with adjacent atelectasis; '
     'superimposed infection cannot be excluded.', 'eff+ ate+ pna?', 'three'),
    ('The cardiac silhouette is not enlarged and there is no vascular '
     'congestion, pleural effusion, or acute focal pneumonia.',
     'car- ede- eff- pna-', 'a denied state, then a denied list'),
    ('There has been resolution of the right effusion with persistent left '
     'effusion.', 'eff+', 'one of two is still there'),
    ('There is neither focal consolidation nor pleural effusion nor '
     'pneumothorax.', 'con- eff- ptx-', 'nor again'),
    ('No pneumothorax or pleural effusion is identified, and the heart is '
     'mildly enlarged.', 'ptx- eff- car+', 'a clause after a list'),
    ('Known left pneumothorax is not well seen.', 'ptx+',
     'badly seen is not absent'),
    ('Multiple old healed rib fractures, no acute fracture.', 'fra+',
     'positive wins'),
    ('No free air below the right hemidiaphragm.', '', 'no label of CheXpert'),
]
DERIVED = [
    ('No acute cardiopulmonary process.', 'nf+', 'said outright'),
    ('Normal chest radiograph.', 'nf+', 'said outright'),
    ('No effusion or pneumothorax.', 'eff- ptx- nf+', 'only denials'),
    ('Endotracheal tube in place. No effusion.', 'dev+ eff- nf+',
     'devices are exempt, as in CheXpert'),
    ('No acute cardiopulmonary process. Cardiomegaly.', 'car+',
     'a finding contradicts it'),
    ('Possible effusion. No pneumothorax.', 'eff? ptx-',
     'so does an uncertain one'),
    ('The patient was seen.', '', 'silence is not normality'),
    ('', '', 'nor is an empty text'),
    ('This is not a normal chest radiograph.', '', 'denied normality'),
]
CAROTID = [
    ('Calcified plaque in the left carotid bulb.', 'cal+ plq+', 'a kind'),
    ('Plaque in the bulb, densely calcified.', 'cal+ plq+', 'kind later'),
    ('The plaque is heterogeneous.', 'mix+ plq+', 'kind as predicate'),
    ('Soft plaque.', 'sof+ plq+', 'a kind'),
    ('Hypoechoic plaques on both sides.', 'sof+ plq+', 'synonym'),
    ('No plaque is seen.', 'plq-', 'denied'),
    ('Ulcerated plaque is suspected.', 'ulc? plq?', 'hedged'),
    ('Plaque without stenosis.', 'plq+ ste-', 'forward only'),
    ('No hemodynamically significant stenosis.', 'sig-',
     'a lesser stenosis stays open'),
    ('No stenosis or occlusion.', 'ste- occ-', 'list'),
    ('50-69% stenosis of the right ICA.', 'mod+ sig+ ste+', 'range'),
    ('Stenosis of 80 %.', 'sev+ sig+ ste+', 'number later'),
    ('70 to 99% stenosis.', 'sev+ sig+ ste+', 'range in words'),
    ('Less than 50% stenosis.', 'mil+ ste+', 'bound in words'),
    ('<50% narrowing.', 'mil+ ste+', 'bound as a sign'),
    ('>70% stenosis.', 'sev+ sig+ ste+', 'bound as a sign'),
    ('Stenosis greater than 50 percent.', 'mod+ sig+ ste+', 'percent'),
    ('100% stenosis.', 'occ+ ste+', 'all of it'),
    ('Severe stenosis.', 'sev+ sig+ ste+', 'grade'),
    ('Near-occlusion cannot be excluded.', 'sev? sig? ste?', 'hedged grade'),
    ('Complete occlusion of the ICA.', 'occ+', 'occlusion'),
    ('IMT 1.2 mm.', 'imt+', 'measured, 1.0 mm or more'),
    ('Intima-media thickness is 0.7 mm.', 'imt-', 'measured, below'),
    ('The intima-media is thickened.', 'imt+', 'structure and state'),
    ('No intima-media thickening.', 'imt-', 'denied'),
    ('Normal IMT.', 'imt-', 'normal'),
    ('Normal flow in both vertebral arteries.', 'flo+', 'a good finding'),
    ('No flow is detected in the left ICA.', 'flo-', 'no flow'),
    ('No dissection.', 'dis-', 'denied'),
    ('Intraluminal thrombus.', 'thr+', 'thrombus'),
    ('Subclavian steal.', 'ste4+', 'steal'),
    ('The lumen shrank by 80% after dinner.', '', 'a number of nothing'),
]


@pytest.mark.parametrize(
    'text, codes, why',
    AFFIRMED + DENIED + BORDERS + HEDGED + TRAPS + STRUCTURES + WHOLE)
def test_chest_sentence(text, codes, why):
  assert read(text) == expected(codes, CHEST), why


@pytest.mark.parametrize('text, codes, why', DERIVED)
def test_no_finding_is_derived(text, codes, why):
  assert read(text, derived=True) == expected(codes, CHEST), why


@pytest.mark.parametrize('text, codes, why', CAROTID)
def test_carotid_sentence(text, codes, why):
  assert read(text, 'carotid') == expected(codes, NECK), why


def test_spans_are_the_evidence():
  text = 'Small effusion. There is no focal consolidation or edema.'
  found = findings.extract(text)
  cut = {k: [text[a:b] for a, b in v.spans] for k, v in found.items()
         if k != 'No Finding'}
  assert cut == {'Pleural Effusion': ['effusion'],
                 'Consolidation': ['no', 'consolidation'],
                 'Edema': ['no', 'edema']}


def test_spans_stand_in_the_original_text_when_folding_changes_length():
  text = '\u0130\ufb01 \u00df: no PLEURAL\u00a0EFFUSION \ud800'
  spans = findings.extract(text)['Pleural Effusion'].spans
  assert [text[a:b] for a, b in spans] == ['no', 'PLEURAL\u00a0EFFUSION']


def test_a_lexicon_of_ones_own(tmp_path):
  path = tmp_path / 'skin.json'
  path.write_text('{"findings": {"Naevus": {"positive": ["naevus"]}}}')
  assert findings.states('No naevus.', str(path)) == {'Naevus': 'negative'}


def test_an_unknown_lexicon_lists_those_that_exist():
  with pytest.raises(ValueError, match='carotid'):
    findings.states('x', 'brain')


def test_total_deterministic_and_linear_on_adversarial_text():
  pieces = ['no ', 'effusion ', 'not seen ', ', ', 'or ', 'heart ', 'normal ',
            'enlarged ', 'cannot ', 'be ', 'excluded ', '(', ')', '.', '\n',
            '\0', '\ud800', 'no evidence of ', '50-', '%', '?', 'and the ',
            '1.', 'has ', "n't ", 'x']
  rng = random.Random(0)
  texts = [p * (65536 // len(p)) for p in pieces]
  texts += [''.join(rng.choices(pieces, k=16000)) for _ in range(3)]
  texts += [(a + b) * (65536 // len(a + b))
            for a, b in itertools.permutations(pieces[:8], 2)][::7]
  for text in texts:
    for lexicon in ('chexpert', 'carotid'):
      with soon.soon(30, text[:40]):
        found = findings.extract(text, lexicon)
      for label in found.values():
        assert label.state in SIGNS.values()
        assert all(0 <= a < b <= len(text) for a, b in label.spans)
  assert findings.extract(texts[-1]) == findings.extract(texts[-1])
