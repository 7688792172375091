"""What the checks of the data tell is in the log file of the run, once."""
from argparse import Namespace
from contextlib import contextmanager, nullcontext

import pytest
import torch
from mmengine.logging import MMLogger

from convnext_mm.apis import test, train
from tests.helpers.paths import ROOT

pytest.importorskip('mmdet', reason='mmdet is not installed')
TOLD = 'What is used of the data: nothing is used'


class Runner:
    """As much of a runner as the commands touch before it runs."""

    def __init__(self, folder):
        self.logger = MMLogger.get_instance(f'run in {folder}', log_file=str(folder / 'run.log'))
        self.hooks, self.model = [], torch.nn.Identity()

    def register_hook(self, hook):
        self.hooks.append(type(hook).__name__)

    def test(self):
        raise KeyboardInterrupt


@pytest.mark.parametrize('told', [TOLD, ''])
@pytest.mark.parametrize('command', [train, test])
def test_the_warning_is_in_the_log_file(command, told, tmp_path, monkeypatch):
    @contextmanager
    def alone(work_dir, launcher):
        yield []

    runner = Runner(tmp_path)
    monkeypatch.setattr(train, 'sole_training', alone)
    monkeypatch.setattr(train, '_train', lambda *args: None)
    monkeypatch.setattr(test, 'resolve', lambda name: None)
    monkeypatch.setattr(test, 'locate', lambda name: 'a.pth')
    monkeypatch.setattr(test, 'describe_run', lambda *args: None)
    monkeypatch.setattr(command, 'check_data', lambda cfg, splits: told)
    monkeypatch.setattr(command, 'check_agreement', lambda cfg, splits: None)
    monkeypatch.setattr(command, 'build_runner', lambda cfg, trust: runner)
    arguments = Namespace(
        config=str(ROOT / 'configs/mask_rcnn/convnext_t_3x.py'), work_dir=str(tmp_path / 'w'), cfg_options=None,
        launcher='none', strategy=None, resume=None, resume_with='checkpoint', amp=False, auto_scale_lr=False,
        trust_checkpoint=False, checkpoint='a.pth', tta=False, precision='float32', show_dir=None, out=None,
        reference='none', deterministic=False, effective_batch_size=None)
    # Training is not run, and this runner's test ends at once.
    with nullcontext() if command is train else pytest.raises(KeyboardInterrupt):
        command.main(arguments)
    assert ('ScheduleLimitHook' in runner.hooks) == (command is train)
    assert 'TestedImagesHook' in runner.hooks
    assert (tmp_path / 'run.log').read_text().count(TOLD) == bool(told)
