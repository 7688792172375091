"""The newest checkpoint is the one of the highest iteration of the run that wrote last, whatever the files' times."""
import os

import pytest
import torch

from convnext_mm.engine import resume
from convnext_mm.engine.hooks.run_state import RUN


def write(folder, name, iteration, time, seed=1, run='a', changed=0):
    info = {} if run is None else {RUN: run}
    torch.save(dict(meta=dict(iter=iteration, time=time, seed=seed), state_dict={}, optimizer={},
                    message_hub=dict(runtime_info=info)), folder / name)
    os.utime(folder / name, (changed, changed))


def damage(file):
    file.write_bytes(file.read_bytes()[:-100])


# Of each file: name, iteration, time as noted in it, seed, run, time of the file. Then the files that are damaged, the
# one that is taken, and those that are named as another run's.
CASES = {
    'copied in another order': (
        [('iter_6.pth', 6, '20240101_000006', 1, 'a', 9), ('iter_9.pth', 9, '20240101_000009', 1, 'a', 3)], [],
        'iter_9.pth', []),
    'numbers are no words': (
        [('iter_9.pth', 9, '20240101_000009', 1, 'a', 1), ('iter_10.pth', 10, '20240101_000010', 1, 'a', 1)], [],
        'iter_10.pth', []),
    'written again after a validation': (
        [('iter_6.pth', 6, '20240101_000099', 1, 'a', 9), ('iter_9.pth', 9, '20240101_000009', 1, 'a', 3)], [],
        'iter_9.pth', []),
    'older run with another seed': (
        [('iter_90.pth', 90, '20230101_000000', 2, None, 9), ('iter_3.pth', 3, '20240101_000000', 1, None, 1)], [],
        'iter_3.pth', ['iter_90.pth']),
    'older run with the same seed': (
        [('iter_90.pth', 90, '20230101_000000', 1, 'b', 9), ('iter_3.pth', 3, '20240101_000000', 1, 'a', 1)], [],
        'iter_3.pth', ['iter_90.pth']),
    'an earlier part of the run has no identity': (
        [('iter_3.pth', 3, '20230101_000000', 1, None, 1), ('iter_6.pth', 6, '20240101_000000', 1, 'a', 1)],
        ['iter_6.pth'], 'iter_3.pth', []),
    'interrupted at the same iteration': (
        [('iter_6.pth', 6, '20240101_000000', 1, 'a', 1),
         ('interrupted_iter_6.pth', 6, '20240101_000000', 1, 'a', 2)], [], 'interrupted_iter_6.pth', []),
    'damaged newest': (
        [('iter_3.pth', 3, '20240101_000003', 1, 'a', 9), ('iter_6.pth', 6, '20240101_000006', 1, 'a', 1),
         ('iter_9.pth', 9, '20240101_000009', 1, 'a', 1)], ['iter_9.pth'], 'iter_6.pth', []),
}


@pytest.mark.parametrize('name', CASES)
def test_which_checkpoint_is_the_newest(tmp_path, monkeypatch, name):
    lines = []
    monkeypatch.setattr(resume, 'print_log', lambda line, **kwargs: lines.append(line))
    files, damaged, taken, left = CASES[name]
    for file, iteration, time, seed, run, changed in files:
        write(tmp_path, file, iteration, time, seed, run, changed)
    for file in damaged:
        damage(tmp_path / file)
    path, content = resume.find_checkpoint(tmp_path)
    assert path == str(tmp_path / taken) and 'optimizer' in content
    told = ''.join(lines)
    assert [file for file in left if file in told] == left and ('another run' in told) == bool(left)
    assert all(file in told for file in damaged)
