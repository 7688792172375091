"""Every tool refuses at once a place for its results where nothing can be written, in one line, and makes nothing."""
import pytest

from convnext_mm.apis.cli import main as run_command
from tests.helpers.paths import ROOT

for _toolbox in ('mmdet', 'mmseg'):
    pytest.importorskip(_toolbox, reason=f'the tools need {_toolbox}')

CONFIG, OUT = str(ROOT / 'configs/demo/upernet.py'), object()
#: Tool, whether it writes a folder, and its arguments, of which ``OUT`` is the place.
TOOLS = [
    ('train', True, [CONFIG, '--work-dir', OUT]),
    ('test', True, [CONFIG, 'convnext_tiny_in1k', '--work-dir', OUT]),
    ('test', True, [CONFIG, 'convnext_tiny_in1k', '--work-dir', 'work', '--show-dir', OUT]),
    ('test', True, [CONFIG, 'convnext_tiny_in1k', '--work-dir', 'work', '--out', OUT]),
    ('test', False, [str(ROOT / 'configs/demo/cascade.py'), 'convnext_tiny_in1k', '--work-dir', 'work', '--out', OUT]),
    ('evaluate', True, ['predictions', CONFIG, '--work-dir', OUT]),
    ('predict', True, [CONFIG, 'convnext_tiny_in1k', 'a.png', '--out-dir', OUT]),
    ('report', False, ['work', '--out', OUT]),
    ('check_data', False, [CONFIG, '--fix', OUT]),
    ('swap_backbone', False, [CONFIG, '--out', OUT]),
    ('show_layer_decay', False, [CONFIG, '--out', OUT]),
    ('roadmap', False, ['--out', OUT]),
    ('roadmap', True, ['--train', 'gelu', '--work-dir', OUT]),
    ('convert_checkpoint', False, ['convnext_tiny_in1k', OUT, '--to', 'timm']),
]


@pytest.mark.parametrize('place', ['/proc/x', 'file/x', 'dangling/x', 'other'])
@pytest.mark.parametrize(('tool', 'is_folder', 'arguments'), TOOLS, ids=lambda v: v if isinstance(v, str) else '')
def test_a_place_where_nothing_can_be_written(tool, is_folder, arguments, place, tmp_path, monkeypatch, capsys):
    # Where a folder is needed stands a file, and the other way round; endings are those that the tool takes.
    ending = '' if is_folder else {'swap_backbone': '.py', 'convert_checkpoint': '.pth'}.get(tool, '.json')
    place = ('file' if is_folder else f'folder{ending}') if place == 'other' else f'{place}{ending}'
    (tmp_path / 'a.png').touch()
    (tmp_path / 'file').touch()
    (tmp_path / 'dangling').symlink_to('gone')
    (tmp_path / f'folder{ending}').mkdir()
    before = sorted(tmp_path.rglob('*'))
    monkeypatch.chdir(tmp_path)
    assert run_command(tool, [place if argument is OUT else argument for argument in arguments]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert 'error: ' in line and repr(place) in line, line
    assert sorted(tmp_path.rglob('*')) == before
