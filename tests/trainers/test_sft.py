"""When supervised training stops by itself. The loop is tested in test_resume
and test_meshes, its loss in test_update.
"""

import ml_collections
import pytest

from medrl.trainers import sft


@pytest.mark.parametrize('patience, least, best, step, stops, why', [
    (0.0, 0, (.5, 10), 1000, False, 'patience 0 never stops'),
    (0.2, 0, (.5, 150), 200, True, '50 of 200 steps is more than a fifth'),
    (0.2, 200, (.5, 150), 200, False, 'but a single evaluation is noise'),
    (0.2, 200, (.5, 150), 350, True, '200 steps without a rise'),
    (0.2, 200, (.5, 1150), 1400, False, '250 of 1400 is under a fifth'),
    (0.2, 200, (.5, 1100), 1400, True, '300 of 1400 is over a fifth'),
    (0.2, 0, (-1., 0), 1000, False, 'nothing has been evaluated yet'),
])
def test_plateau(patience, least, best, step, stops, why):
  config = ml_collections.ConfigDict(
      dict(patience=patience, patience_steps=least))
  assert sft._plateau(config, {'best': list(best)}, step) == stops, why
