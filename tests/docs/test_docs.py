"""Every command of `docs/` runs.

Each page is read from top to bottom in a folder that looks like a clone with data: `configs/` and `tools/` are the
project's, `data/` holds a few drawn images in COCO's and in ADE20K's layout and classes, and the checkpoints that the
pages name are there, of small random models. What `tools/train.py` and `tools/test.py` read is shrunk (`shrink`):
narrow models, small images, an iteration or two. A checkpoint of a later epoch that a page names is then the last one.
The fenced blocks of a page mean:

- ``bash``: commands, which must succeed. `python tools/X.py` runs in this process, anything else in a shell.
- ``bash`` after ``<!-- not run: REASON -->``: commands that are not run here.
- ``bash`` after ``<!-- fails -->``: one command that must end with exit code 2; the ``text`` block behind it is its
  message, in which ``...`` stands for anything.
- ``bash`` after ``<!-- logs -->``: a command that logs the ``text`` block behind it, with other numbers.
- ``python`` with a first line ``# file: PATH``: a file, written before what follows is run.
"""
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from PIL import Image

from convnext_mm.apis import evaluate, predict, test, train
from convnext_mm.apis.arguments import COMMANDS, make_parser
from convnext_mm.apis.cli import main as run_command
from convnext_mm.apis.config import load_config
from convnext_mm.datasets import shapes
from convnext_mm.models.convnext import ConvNeXt
from tests.helpers.instances import forget_instances
from tests.helpers.paths import ROOT
from tests.helpers.small import ARCH, shrink

TOOLBOXES = [pytest.importorskip(f'{toolbox}.registry', reason=f'the commands need {toolbox}')
             for toolbox in ('mmdet', 'mmseg')]
# CHANGELOG and CONTRIBUTING are pages of the site by links.
PAGES = sorted(page for page in (ROOT / 'docs').glob('*.md') if not page.is_symlink())
FENCE = re.compile(r'(?:<!-- (?P<mark>[^\n]*?) -->\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$', re.M | re.S)


def blocks(page):
    """(kind, mark, text) of every fenced block of a page, in order."""
    return [(m['kind'], m['mark'] or '', m['text']) for m in FENCE.finditer(page.read_text())]


def commands(text):
    """The commands of a block, continued lines joined, without comments."""
    return [line for line in text.replace('\\\n', ' ').splitlines() if line.strip() and not line.startswith('#')]


# The configs.

def _small(cfg):
    """``shrink``, but the demo's models are small already, and a backbone still starts from a file that is there."""
    if 'demo' in Path(cfg.filename).parts:
        if 'max_epochs' in cfg.train_cfg:
            cfg.train_cfg.update(max_epochs=1, val_interval=1)
        return cfg
    start = cfg.model.backbone.get('init_cfg') or {}
    small = shrink(cfg)
    if Path(start.get('checkpoint', '')).is_file():
        small.model.backbone.init_cfg = start
    return small


# The folder.

def _draw_data(folder):
    """Two images a split, with the classes of COCO and of ADE20K in place of the shapes'."""
    from mmdet.datasets import CocoDataset
    size = dict(train=2, val=2, width=96, height=80)
    shapes.generate_coco(folder / 'data/coco', **size)
    names = CocoDataset.METAINFO['classes']
    for file in (folder / 'data/coco/annotations').iterdir():
        content = json.loads(file.read_text())
        content['categories'] = [dict(id=i + 1, name=name) for i, name in enumerate(names)]
        file.write_text(json.dumps(content))
    ade = folder / 'data/ade/ADEChallengeData2016'
    shapes.generate_ade(ade, **size)
    for file in ade.glob('images/*/*.png'):
        Image.open(file).save(file.with_suffix('.jpg'))
    for kind in ('coco', 'ade'):
        getattr(shapes, f'generate_{kind}')(folder / 'data/shapes' / kind, **size)


def _write_checkpoints(folder):
    """What downloads and trainings would have left, of small random models."""
    from mmengine.registry import MODELS, init_default_scope
    backbone = ConvNeXt(ARCH, out_indices=(3,)).state_dict()
    classifier = {name.replace('norm3.', 'norm.'): tensor for name, tensor in backbone.items()}
    classifier.update({'head.weight': torch.zeros(1000, 32), 'head.bias': torch.zeros(1000)})
    torch.save({'model': classifier}, folder / 'convnext_tiny_1k_224.pth')
    (folder / 'damaged.pth').write_bytes((folder / 'convnext_tiny_1k_224.pth').read_bytes()[:2000])
    for config, file in (('cascade/convnext_t_3x', 'epoch_36.pth'), ('upernet/convnext_t_512_160k', 'iter_160000.pth'),
                         ('demo/cascade', 'epoch_18.pth')):
        cfg = _small(Config.fromfile(ROOT / f'configs/{config}.py'))
        init_default_scope(cfg.default_scope)
        state = dict(state_dict=MODELS.build(cfg.model).state_dict(), meta={})
        (folder / 'work_dirs' / config).mkdir(parents=True)
        torch.save(state, folder / 'work_dirs' / config / file)


@pytest.fixture(scope='module')
def template(tmp_path_factory):
    """The folder, made once."""
    folder = tmp_path_factory.mktemp('docs')
    _draw_data(folder)
    _write_checkpoints(folder)
    return folder


@pytest.fixture
def clone(template, tmp_path, monkeypatch):
    """A fresh copy of the folder, as the current one, with configs that shrink when they are read."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    shutil.copytree(ROOT / 'configs', tmp_path / 'configs', ignore=shutil.ignore_patterns('__pycache__'))
    (tmp_path / 'tools').symlink_to(ROOT / 'tools')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('PATH', f'{Path(sys.executable).parent}:/usr/bin:/bin')
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    load = load_config

    def load_small(args, *needed):
        cfg = load(args, *needed)
        # A run writes its config three times, and to lay it out nicely would take longer than all the rest.
        object.__setattr__(cfg, '_format_python_code', False)
        return _small(cfg)
    for module in (train, test, evaluate, predict):
        monkeypatch.setattr(module, 'load_config', load_small)
    return tmp_path


def call(command):
    """Run a command; return its exit code and, where it ran in this process, nothing else of it stays."""
    words = shlex.split(command)
    if words[:1] != ['python'] or not words[1].startswith('tools/'):
        return subprocess.run(['bash', '-euo', 'pipefail', '-c', command], timeout=300).returncode
    forget_instances()
    before, sys.argv = sys.argv, words[1:]
    try:
        return run_command(Path(words[1]).stem, words[2:])
    except SystemExit as ended:
        return ended.code
    finally:
        sys.argv = before


def wanted(text, numbers):
    """A pattern for a message in which ``...`` stands for anything, line ends for blanks, and numbers for any unless
    they are wanted."""
    pattern = '.*'.join(re.escape(part) for part in ' '.join(text.split()).split('...'))
    return pattern if numbers else re.sub(r'\d+', r'\\d+', pattern)


def call_on(page, command, capfd, code=0):
    """Run a command of a page, which must end with an exit code; return what it wrote to stdout and stderr."""
    capfd.readouterr()
    ended = call(command)
    out, err = capfd.readouterr()
    assert ended == code, f'{command}\nended with {ended}:\n{out[-2000:]}\n{err[-3000:]}'
    name_checkpoints(page)
    return out, err


def name_checkpoints(page):
    """Give the last checkpoint of each work dir the name by which commands that succeed, or files, call it."""
    texts = ' '.join(text for kind, mark, text in blocks(page) if kind != 'text' and mark != 'fails')
    for name in map(Path, re.findall(r'work_dirs/\S+?/(?:epoch|iter)_\d+\.pth', texts)):
        last = name.parent / 'last_checkpoint'
        if last.is_file() and not name.exists():
            name.symlink_to(last.read_text())


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_commands(page, clone, capfd):
    expected, numbers = None, True
    for kind, mark, text in blocks(page):
        if kind == 'python' and text.startswith('# file: '):
            name = text.splitlines()[0].removeprefix('# file: ')
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            (clone / name).write_text(text)
        elif kind == 'text' and expected is not None:
            assert re.search(wanted(text, numbers), ' '.join(expected.split())), f'{expected!r} is not {text!r}'
            expected = None
        elif kind == 'bash' and mark in ('fails', 'logs'):
            command, = commands(text)
            out, err = call_on(page, command, capfd, 2 if mark == 'fails' else 0)
            expected, numbers = (err.strip().splitlines()[-1], True) if mark == 'fails' else (out + err, False)
        elif kind == 'bash' and not mark:
            for command in commands(text):
                call_on(page, command, capfd)
    assert expected is None, 'a command has no message behind it'


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_blocks_are_marked_as_this_file_says(page):
    for kind, mark, text in blocks(page):
        assert kind in ('bash', 'python', 'text'), f'{page.name}: a block of {kind or "no kind"}'
        assert mark in ('', 'fails', 'logs') or re.fullmatch(r'not run: \w.{9,}', mark), mark
        assert not mark or kind == 'bash'
        assert kind != 'bash' or commands(text), 'a block without a command'
    # Nothing that looks like a command stands outside of what is run.
    outside = FENCE.sub('', page.read_text())
    assert not re.search(r'^ {0,4}(?:\$ )?(?:python|make|pip|tools/)\b', outside, re.M)


def test_arguments_that_pages_name_exist():
    said = {tool.name: tool.read_text() for tool in (ROOT / 'tools').glob('*.py')}
    said.update((f'{command}.py', make_parser(command).format_help()) for command in COMMANDS)
    for page in PAGES:
        for kind, _, text in blocks(page):
            for command in commands(text) if kind == 'bash' else ():
                words = command.split()
                if words[:1] != ['python'] or not words[1].startswith('tools/'):
                    continue
                tool = words[1].removeprefix('tools/')
                assert tool in said, f'{page.name}: {command}'
                for option in re.findall(r' (--[\w-]+)', command):
                    assert option in said[tool], f'{page.name}: {command} has no {option}'
