"""Damaged checkpoint files give a clear error or a right result; none runs code, hangs or fills the memory.

`make test` tries some, `make check-long` 1,000, the same in every run.
"""
import os
import pickle
import warnings
import zipfile
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from convnext_mm import ConvNeXt
from convnext_mm.checkpoint.convert import describe_file
from convnext_mm.checkpoint.fit import load_pretrained
from convnext_mm.utils.errors import UserError
from tests.helpers.fuzzing import bounded, damage, damages, run, show
from tests.helpers.models import randomise

pytestmark = pytest.mark.long

SMALL = dict(depths=(1, 1, 2, 1), channels=(2, 4, 6, 8))


def training_checkpoint(model):
    """What mmengine writes: the model beside objects of a run."""
    optimizer = torch.optim.AdamW(model.parameters())
    sum(output.mean() for output in model(torch.randn(1, 3, 32, 32))).backward()
    optimizer.step()
    return dict(meta=dict(epoch=1, iter=10, seed=3, cfg='model = dict()'), state_dict=model.state_dict(),
                optimizer=optimizer.state_dict(), message_hub=dict(log_scalars={}, runtime_info=dict(iter=10)))


def write(content, path, legacy):
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)


def write_safetensors(content, path):
    save = pytest.importorskip('safetensors.torch', reason='safetensors is not installed').save_file
    save(content, path)


FORMATS = {  # kind of file -> (ending, writer); the zip format alone carries checksums
    'zip': ('.pth', lambda model, path: write(model.state_dict(), path, legacy=False)),
    'training': ('.pth', lambda model, path: write(training_checkpoint(model), path, legacy=False)),
    'legacy': ('.pth', lambda model, path: write(dict(model=model.state_dict()), path, legacy=True)),
    'safetensors': ('.safetensors', lambda model, path: write_safetensors(model.state_dict(), path)),
}


class Canary:
    """Pickled, an order to make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def orders(canary):
    """Pieces of pickles that make the file ``canary`` if they are carried out."""
    whole, path = pickle.dumps(Canary(canary), 2), str(canary).encode()
    return [whole[2:-1], whole, b'cos\nmkdir\n' + b'X' + len(path).to_bytes(4, 'little') + path + b'\x85R',
            b"cposix\nsystem\n(S'mkdir " + path + b"'\ntR.", b'r\xff\xff\xff\x7f', b'cbuiltins\nexec\n']


def reseal(sound, path, change):
    """Copy a zip checkpoint with its pickle changed and its checksums right."""
    with zipfile.ZipFile(sound) as old, zipfile.ZipFile(path, 'w') as new:
        for info in old.infolist():
            record = old.read(info)
            new.writestr(info.filename, change(record) if info.filename.endswith('data.pkl') else record)


def outcome(use, path):
    """``loaded``, or ``refused`` with a message that names the file."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            with bounded():
                use(str(path))
            return 'loaded'
        except UserError as error:
            message = str(error)
    assert path.name in message, message
    assert 'MemoryError' not in message, message
    return 'refused'


@pytest.mark.parametrize('kind', [*FORMATS, 'pickle'])
def test_damaged_checkpoints(kind, size, tmp_path, record_property):
    ending, writer = FORMATS['zip' if kind == 'pickle' else kind]
    sound, path, canary = tmp_path / f'sound{ending}', tmp_path / f'damaged{ending}', tmp_path / 'canary'
    tally = Counter()
    model = randomise(ConvNeXt(SMALL))
    writer(model, sound)
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    content = sound.read_bytes()
    length = len(content)
    if kind == 'pickle':
        with zipfile.ZipFile(sound) as archive:
            length = len(archive.read(f'{sound.stem}/data.pkl'))

    @given(st.one_of(damages(length), damages(length, orders(canary))))
    def check(actions):
        if kind == 'pickle':
            reseal(sound, path, lambda pickled: damage(pickled, actions))
        else:
            path.write_bytes(damage(content, actions))
        result = outcome(lambda file: load_pretrained(model, file), path)
        outcome(describe_file, path)
        assert not canary.exists(), 'the file ran code'
        if result == 'loaded':
            tensors = model.state_dict().items()
            assert all(tensor.shape == expected[name].shape for name, tensor in tensors)
            if kind in ('zip', 'training'):
                assert all(torch.equal(tensor, expected[name]) for name, tensor in tensors)
        tally[result] += 1

    run(check, size(40, 200))
    record_property('tally', show(tally))
    assert tally['refused'] > .3 * sum(tally.values())
