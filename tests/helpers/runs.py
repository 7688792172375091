"""Work dirs of trainings, as mmengine leaves them."""
import json
import shutil
from pathlib import Path

from mmengine.config import Config

from tests.helpers.paths import ROOT

CASCADE, UPERNET = 'configs/cascade/convnext_t_3x.py', 'configs/upernet/convnext_t_512_160k.py'
ENVIRONMENT = """
------------------------------------------------------------
System environment:
    Python: 3.11.7 (main)
    PyTorch: 2.13.0
    PyTorch compiling details: PyTorch built with:
  - GCC 13.3

Runtime environment:
    seed: 7
------------------------------------------------------------
"""


def train_line(step, per_epoch=None, **values):
    epoch = {} if per_epoch is None else dict(epoch=-(-step // per_epoch))
    values = dict({'loss': 1 / step, 'decode.loss_ce': .7 / step, 'aux.loss_ce': .3 / step}, **values)
    return dict(base_lr=1e-4, lr=5e-5, time=.5, memory=2048, **values, **epoch, iter=step, step=step)


def rate_line(step, layers=(0, 1, 2)):
    return {**{f'lr/layer_{i:02d}': 1e-4 * .9 ** (2 - i) for i in layers}, 'step': step}


def start(folder, stamp, lines, config=UPERNET, resumed=None, **options):
    """What mmengine leaves of one start of a training."""
    data = folder / stamp / 'vis_data'
    data.mkdir(parents=True)
    cfg = Config.fromfile(ROOT / config)
    cfg.merge_from_dict(options)
    cfg.dump(data / 'config.py')
    shutil.copy(data / 'config.py', folder / Path(config).name)
    if lines is not None:
        (data / 'scalars.json').write_text(''.join(json.dumps(line) + '\n' if isinstance(line, dict) else line
                                                   for line in lines))
    said = '' if resumed is None else 'INFO - resumed epoch: {}, iter: {}\n'.format(*resumed)
    (folder / stamp / f'{stamp}.log').write_text(ENVIRONMENT + said)
    return folder
