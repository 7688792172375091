"""The tools: convert a checkpoint, tell what one is, and one line for a user's mistake."""
import os
import runpy
import sys

import pytest
import torch

from convnext_mm import ARCHS, ConvNeXt
from convnext_mm.checkpoint.files import read, write
from convnext_mm.checkpoint.fit import load_pretrained
from convnext_mm.checkpoint.state_dicts import convert
from tests.helpers.checkpoints import Detector, Evil, backbone, classifier, detector, pyramid
from tests.helpers.official import PAPERS_ROWS, Official, official_file
from tests.helpers.paths import ROOT


@pytest.fixture
def tool(monkeypatch):
    """Run a tool in this process: exit code."""
    def call(name, *arguments):
        monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments)])
        with pytest.raises(SystemExit) as exit:
            runpy.run_path(str(ROOT / 'tools' / f'{name}.py'), run_name='__main__')
        return exit.value.code
    return call


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], tensor) for name, tensor in second.items())


@pytest.mark.parametrize('ending', ['.pth', '.safetensors'])
@pytest.mark.parametrize('to', ['official', 'mmpretrain', 'timm', 'torchvision', 'transformers'])
def test_convert(to, ending, tool, tmp_path, capsys):
    source, target, back = tmp_path / 'a.pth', tmp_path / f'b{ending}', tmp_path / f'c{ending}'
    torch.save({'model': classifier()}, source)
    assert tool('convert_checkpoint', source, target, '--to', to) == 0
    assert capsys.readouterr().out == f'{source} (official naming) -> {target} ({to} naming): 65 tensors\n'
    assert equal(read(target), convert(classifier(), to))
    assert tool('convert_checkpoint', target, back, '--to', 'official') == 0
    assert equal(read(back), classifier())
    assert sorted(os.listdir(tmp_path)) == sorted(['a.pth', target.name, back.name])
    if ending == '.pth':
        assert torch.load(target, weights_only=True).keys() == read(target).keys()


def test_whole_models_keep_their_heads(tool, tmp_path):
    source, target, back = (tmp_path / f'{name}.pth' for name in 'abc')
    state_dict = detector().state_dict()
    torch.save({'state_dict': state_dict, 'meta': {'epoch': 3}}, source)
    assert tool('convert_checkpoint', source, target, '--to', 'mmpretrain') == 0
    assert 'neck.weight' in read(target)
    assert 'backbone.stages.0.0.depthwise_conv.weight' in read(target)
    assert tool('convert_checkpoint', target, back, '--to', 'official') == 0
    assert equal(read(back), state_dict)


#: What a file holds, how it is converted, and what the one line says.
MISTAKES = {
    'no place for heads': (lambda: detector().state_dict(), 'timm', 'holds neck, roi_head beside the backbone'),
    'no place for GRN': (lambda: classifier(True), 'torchvision', '10 entries for which torchvision has no place'),
    'no place for output norms': (pyramid, 'timm', '8 entries for which timm has no place: norm0.weight'),
    'ambiguous norm': (lambda: pyramid(out_indices=(3,)), 'mmpretrain', 'would take its norm3 for the norm of a class'),
    'no tensors': (lambda: {**pyramid(), 'epoch': 3}, 'official', 'no place: epoch'),
    'no tensors in heads': (lambda: {**detector().state_dict(), 'neck.x': None}, 'official', 'no place: neck.x'),
    'strange tensors': (lambda: {**pyramid(), 'more': torch.ones(1)}, 'official', 'no place: more'),
    'no ConvNeXt': (lambda: {'a': torch.ones(1)}, 'timm', 'holds no ConvNeXt in a known naming'),
    'nothing': (dict, 'timm', 'holds no state dict'),
}


@pytest.mark.parametrize('mistake', MISTAKES)
def test_mistakes_are_one_line(mistake, tool, tmp_path, capsys):
    content, to, words = MISTAKES[mistake]
    source, target = tmp_path / 'a.pth', tmp_path / 'b.pth'
    torch.save(content(), source)
    assert tool('convert_checkpoint', source, target, '--to', to) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert words in error
    assert str(source) in error
    assert not target.exists()


@pytest.mark.parametrize(('arguments', 'words'), [
    (['{a}', '{folder}/b.txt', '--to', 'timm'], 'must end in .pth, .pt, .bin, .safetensors'),
    (['{a}', '{folder}/none/b.pth', '--to', 'timm'], 'cannot be written: No such file or directory'),
    (['{a}', '{folder}/b.pth', '--to', 'keras'], 'invalid choice'),
    (['{a}', '{folder}/b.pth'], 'required: --to'),
    (['{folder}/none.pth', '{folder}/b.pth', '--to', 'timm'], 'is no file that exists'),
    (['{folder}', '{folder}/b.pth', '--to', 'timm'], 'is a folder'),
])
def test_wrong_arguments(arguments, words, tool, tmp_path, capsys):
    torch.save(classifier(), tmp_path / 'a.pth')
    arguments = [argument.format(a=tmp_path / 'a.pth', folder=tmp_path) for argument in arguments]
    assert tool('convert_checkpoint', *arguments) == 2
    assert words in capsys.readouterr().err
    assert os.listdir(tmp_path) == ['a.pth']


@pytest.mark.parametrize('name', ['convert_checkpoint', 'inspect_checkpoint'])
def test_trust_is_asked_for(name, tool, tmp_path, capsys):
    mark, source = tmp_path / 'mark', tmp_path / 'a.pth'
    torch.save({'model': classifier(), 'args': Evil(mark)}, source)
    arguments = [source, *([tmp_path / 'b.pth', '--to', 'timm'] if name.startswith('convert') else [])]
    assert tool(name, *arguments) == 2
    assert f'{os.mkdir.__module__}.mkdir' in capsys.readouterr().err
    assert not mark.exists()
    assert tool(name, *arguments, '--trust-checkpoint') == 0
    assert mark.exists()
    mark.rmdir()
    assert tool(name, *arguments) == 2, 'trust must not stay'


def described(tool, capsys, path):
    assert tool('inspect_checkpoint', path) == 0
    return dict(line.split(':', 1) for line in capsys.readouterr().out.splitlines())


def test_inspect_a_classifier(tool, tmp_path, capsys):
    path = tmp_path / 'a.safetensors'
    write({name: tensor.half() if 'classifier' in name else tensor for name, tensor in
           convert(classifier(True), 'transformers').items()}, path)
    facts = described(tool, capsys, path)
    assert 'safetensors' in facts['file']
    assert facts['format'].strip() == "transformers naming, backbone under 'convnextv2.'"
    assert facts['arch'].strip() == 'ConvNeXt V2 (1, 1, 2, 1) with channels (4, 8, 12, 16)'
    assert facts['classes'].strip() == '7'
    assert facts['resolution'].strip() == 'unknown'
    assert facts['dtype'].strip() == 'float32 (68 tensors), float16 (2 tensors)'
    assert facts['loads into'].strip() == (
        "dict(type='convnext_mm.ConvNeXt', arch={'depths': (1, 1, 2, 1), 'channels': (4, 8, 12, 16)}, use_grn=True, "
        'layer_scale_init_value=0)')


def test_inspect_published_files_by_name(tool, tmp_path, capsys):
    path = tmp_path / 'convnext_tiny_22k_1k_384.pth'
    with torch.device('meta'):
        shapes = Official(ARCHS['tiny']).state_dict()
    torch.save({'model': {name: torch.zeros(()).expand(tensor.shape) for name, tensor in shapes.items()}}, path)
    facts = described(tool, capsys, path)
    assert facts['arch'].strip() == 'ConvNeXt tiny (3, 3, 9, 3)'
    assert facts['resolution'].strip() == '384 x 384'
    assert facts['published as'].strip() == ('convnext_tiny_in22k_in1k_384: ImageNet-22K, then ImageNet-1K, '
                                             'licence MIT, 84.1 % top-1 on ImageNet-1K')
    assert facts['loads into'].strip() == "dict(type='convnext_mm.ConvNeXt', arch='tiny')"


def test_a_name_alone_is_not_published(tool, tmp_path, capsys):
    path = tmp_path / 'convnext_tiny_1k_224.pth'
    torch.save({**classifier(), 'epoch': 3}, path)
    facts = described(tool, capsys, path)
    assert 'published as' not in facts
    assert facts['resolution'].strip() == 'unknown'
    assert facts['not understood'].strip() == 'epoch'
    assert ' in 65 tensors' in facts['parameters']


@pytest.mark.parametrize('out_indices', [(1,), (0, 2)])
def test_what_a_part_of_a_backbone_loads_into(out_indices, tool, tmp_path, capsys):
    torch.save(pyramid(out_indices=out_indices), tmp_path / 'a.pth')
    into = described(tool, capsys, tmp_path / 'a.pth')['loads into']
    settings = eval(into)
    assert settings.pop('type') == 'convnext_mm.ConvNeXt'
    model = ConvNeXt(**settings)
    assert model.out_indices == out_indices
    load_pretrained(model, tmp_path / 'a.pth')


def test_inspect_a_detector(tool, tmp_path, capsys):
    path = tmp_path / 'a.pth'
    torch.save({'state_dict': detector().state_dict(), 'meta': {}, 'optimizer': {'a': 1}}, path)
    facts = described(tool, capsys, path)
    assert facts['model'].strip() == 'backbone beside neck, roi_head'
    assert facts['classes'].strip() == '5'
    assert facts['also holds'].strip() == 'meta, optimizer'
    total, own = (sum(p.numel() for p in model.state_dict().values()) / 1e6 for model in (Detector(), backbone()))
    assert facts['parameters'].strip().startswith(f'{total:.2f} million in ')
    assert facts['parameters'].strip().endswith(f'{own:.2f} million in the backbone')


def test_inspect_the_papers_models(tool, tmp_path, capsys):
    for config, classes, loads in (('cascade/convnext_b_in22k_3x.py', 80, 'cascade/convnext_b_3x.py, '
                                                                          'configs/cascade/convnext_b_in22k_3x.py'),
                                   ('mask_rcnn/convnext_t_3x.py', 80, 'mask_rcnn/convnext_t_3x.py'),
                                   ('upernet/convnext_s_512_160k.py', 150, 'upernet/convnext_s_512_160k.py')):
        path = tmp_path / 'a.pth'
        shapes = official_file(PAPERS_ROWS[config])
        torch.save({name: torch.zeros(()).expand(tensor.shape) for name, tensor in shapes.items()}, path)
        facts = described(tool, capsys, path)
        assert facts['model'].strip() == PAPERS_ROWS[config]['method']
        assert facts['classes'].strip() == str(classes)
        assert facts['loads into'].strip() == f'configs/{loads}'


def test_help_names_the_tool(tool, capsys):
    for name in ('convert_checkpoint', 'inspect_checkpoint'):
        assert tool(name, '--help') == 0
        assert f'convnext-mm {name}' in capsys.readouterr().out
