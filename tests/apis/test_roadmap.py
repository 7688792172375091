"""The roadmap's command: trainings that are found again and go on exactly, the column of what was measured, errors."""
import json
import os
import re

import pytest
import torch
from PIL import Image

from convnext_mm.apis import roadmap, train
from convnext_mm.apis.cli import main as run_command
from convnext_mm.apis.demo import StepFailed
from convnext_mm.datasets import shapes
from convnext_mm.engine.run_status import read_status, update_status
from convnext_mm.published.roadmap import STEPS
from tests.helpers.instances import forget_instances
from tests.helpers.paths import ROOT

pytest.importorskip('mmpretrain', reason='mmpretrain is not installed')

#: Of a training of seconds: narrow networks on a few images.
SMALL = ('--cfg-options', 'model.backbone.width_divisor=32', 'train_dataloader.batch_size=6',
         'val_dataloader.batch_size=6', 'train_cfg.val_interval=1', 'default_hooks.logger.interval=1')


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder, small data and networks; trainings run in this process, and count nothing but themselves."""
    monkeypatch.chdir(tmp_path)
    generate = shapes.generate_classes
    monkeypatch.setattr(shapes, 'generate_classes', lambda root: generate(root, train=24, val=12))
    monkeypatch.setitem(roadmap.DATA, 'drawn', roadmap.DATA['drawn']._replace(
        options=(*SMALL, 'train_cfg.max_epochs=1')))
    monkeypatch.setattr('convnext_mm.evaluation.roadmap.count_step', lambda regime, step: 0)
    load = train.load_config

    def load_plain(args, *needed):
        cfg = load(args, *needed)
        # A run writes its config three times, and to lay it out nicely would take longer than all the rest.
        object.__setattr__(cfg, '_format_python_code', False)
        return cfg
    monkeypatch.setattr(train, 'load_config', load_plain)
    return tmp_path


@pytest.fixture
def trained(monkeypatch):
    """The commands of trainings, which run in this process."""
    commands = []

    def run_step(command, where, log):
        commands.append(command)
        forget_instances()
        log.parent.mkdir(parents=True, exist_ok=True)
        code = run_command(command[3], command[4:])
        if code:
            raise StepFailed(code)
    monkeypatch.setattr(roadmap, 'run_step', run_step)
    return commands


@pytest.mark.parametrize(('words', 'numbers'), [
    (['all'], list(range(17))), (['gelu', '0', 'gelu', '12'], [0, 12]), (['separate_downsampling'], [16])])
def test_steps(words, numbers):
    assert roadmap.parse_steps(words) == numbers


def test_trainings_fill_a_column_and_are_not_made_twice(folder, trained, capsys):
    arguments = ['--train', 'resnet', '16', '--out', 'figure.png']
    assert run_command('roadmap', arguments) == 0
    said = capsys.readouterr()
    assert [command[-2:] for command in trained] == [['model.backbone.regime=resnet50', f'model.backbone.step={name}']
                                                     for name in ('resnet', 'separate_downsampling')]
    assert all('--resume' in command for command in trained)
    header, *lines = said.out.splitlines()[:18]
    assert header.endswith('drawn shapes, not comparable')
    measured = {line.split()[1]: line.split()[-1] for line in lines if len(line) == max(map(len, lines))}
    assert list(measured) == ['resnet', 'separate_downsampling'] and '(2 of 2, about 0:' in said.err
    assert Image.open('figure.png').size[0] > 1000
    first = json.loads((next((folder / 'work_dirs/roadmap/drawn/resnet50/resnet').glob('*/vis_data/scalars.json'))
                        ).read_text().splitlines()[-1])['accuracy/top1']
    assert float(measured['resnet']) == pytest.approx(first, abs=.01)
    # Again: both are found, and the table is the same, as JSON too.
    assert run_command('roadmap', [*arguments, '--json']) == 0
    assert len(trained) == 2
    rows = json.loads(capsys.readouterr().out)
    assert {row['name'] for row in rows if row['measured'] is not None} == set(measured)
    assert [len(rows), rows[0]['measured']] == [2 * len(STEPS), first]
    # The last accuracy counts, and only those of trainings that have ended.
    work_dir = folder / 'work_dirs/roadmap/drawn'
    with next((work_dir / 'resnet50/resnet').glob('*/vis_data/scalars.json')).open('a') as log:
        log.write('{"accuracy/top1": 12.5, "step": 2}\n')
    assert roadmap.read_measured(work_dir)['resnet50', 'resnet'] == 12.5
    update_status(work_dir / 'resnet50/resnet', state='running')
    assert list(roadmap.read_measured(work_dir)) == [('resnet50', 'separate_downsampling')]


def test_a_step_is_trained_in_a_process_of_its_own(folder, monkeypatch, capsys):
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    # Four iterations of the narrowest network that is there.
    assert run_command('roadmap', ['--train', 'resnet']) == 0
    place = folder / 'work_dirs/roadmap/drawn/resnet50/resnet'
    status = read_status(place)
    assert status['state'] == 'finished' and status['pid'] != os.getpid()
    assert (place / 'epoch_1.pth').is_file() and 'Epoch(train)' in (place / 'train.log').read_text()
    row = next(line for line in capsys.readouterr().out.splitlines() if line.split()[1:2] == ['resnet'])
    accuracy = roadmap.read_measured(folder / 'work_dirs/roadmap/drawn')['resnet50', 'resnet']
    assert row.endswith(f' {accuracy:.2f}')


def test_a_failed_training_ends_the_command_with_its_code(folder, monkeypatch, capsys):
    def fail(*arguments):
        raise StepFailed(75)
    monkeypatch.setattr(roadmap, 'run_step', fail)
    assert run_command('roadmap', ['--train', 'gelu']) == 75
    assert roadmap.read_measured(folder / 'work_dirs/roadmap/drawn') == {}
    assert not (folder / 'roadmap.png').exists() and capsys.readouterr().out == ''


def test_a_stopped_training_goes_on_exactly(folder):
    """Batch norm's statistics and drop path are part of what goes on."""
    shapes.generate_classes('data/shapes/classes')

    def run(name, epochs):
        forget_instances()
        arguments = ['convnext_mm::roadmap/drawn.py', '--work-dir', name, '--resume', *SMALL,
                     f'train_cfg.max_epochs={epochs}', 'model.backbone.step=fewer_norms',
                     'model.backbone.drop_path_rate=.3']
        assert run_command('train', arguments) == 0
        return torch.load(folder / name / f'epoch_{epochs}.pth', weights_only=False)['state_dict']

    whole = run('whole', 2)
    run('parts', 1)
    parts = run('parts', 2)
    assert [name for name in whole if not torch.equal(whole[name], parts[name])] == []


ERRORS = [
    (['--train', 'wider'], "step .*separate_downsampling, got 'wider'"),
    (['--train', '17'], 'step .*0 to 16, got 17'),
    (['--train', '0', '--data', 'imagenet'], 'data/imagenet does not exist'),
    (['--regime', 'resnet101'], 'resnet50.*resnet200'),
    (['--data', 'coco'], 'drawn.*imagenet'),
    (['--out', 'figure.svg'], "--out 'figure.svg' must end in .png"),
]


@pytest.mark.parametrize(('arguments', 'message'), ERRORS, ids=lambda value: str(value)[:30])
def test_errors_are_one_line(arguments, message, folder, capsys):
    try:
        code = run_command('roadmap', arguments)
    except SystemExit as ended:
        code = ended.code
    line, = capsys.readouterr().err.splitlines()
    assert code == 2 and re.search(message, line), line
    assert list(folder.iterdir()) == []
