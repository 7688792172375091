"""A report shows what the logs of runs tell, whole and harmless, and says what it lacks."""
import html
import json
import re
import shutil
import sys
import time

import pytest

from convnext_mm.apis.cli import main as run_command
from convnext_mm.utils.errors import UserError
from convnext_mm.visualization.report import page as report
from convnext_mm.visualization.report import runs
from tests.helpers.paths import ROOT
from tests.helpers.runs import start, train_line

for _needed in ('mmdet', 'mmseg', 'bokeh'):
    pytest.importorskip(_needed, reason=f'the report needs {_needed}')


def test_a_page_that_cannot_be_written(tmp_path):
    start(tmp_path, '20260101_000000', [])
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match='file/page.html cannot be written: '):
        report.write_report([tmp_path], ROOT / 'configs', tmp_path / 'file' / 'page.html')


def test_a_place_that_cannot_be_is_told_before_the_work(tmp_path, capsys):
    start(tmp_path, '20260101_000000', [])
    (tmp_path / 'file').touch()
    assert run_command('report', [str(tmp_path), '--out', str(tmp_path / 'file' / 'page.html')]) == 2
    said, = capsys.readouterr().err.strip().splitlines()
    assert re.search("--out '.*file/page.html' cannot be written: .*file is not a folder", said)


def test_without_the_library_one_line_says_what_to_install(tmp_path, capsys, monkeypatch):
    start(tmp_path, '20260101_000000', [])
    monkeypatch.setitem(sys.modules, 'bokeh', None)
    assert run_command('report', [str(tmp_path), '--out', str(tmp_path / 'page.html')]) == 2
    said, = capsys.readouterr().err.strip().splitlines()
    assert "pip install 'bokeh" in said and not (tmp_path / 'page.html').exists()


def test_a_page_is_replaced_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    start(tmp_path / 'run', '20260101_000000', [])
    (tmp_path / 'page.html').write_text('old')

    def full(*args):
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr('os.replace', full)
    with pytest.raises(UserError, match='cannot be written: No space left'):
        report.write_report([tmp_path / 'run'], ROOT / 'configs', tmp_path / 'page.html')
    assert (tmp_path / 'page.html').read_text() == 'old'
    assert sorted(path.name for path in tmp_path.iterdir()) == ['page.html', 'run']


def test_names_tell_runs_apart(tmp_path):
    folders = [start(tmp_path / name, '20260101_000000', []) for name in ('a/run', 'b/run')]
    assert report.name_runs([runs.read_run(folder) for folder in folders]) == ['a/run', 'b/run']
    assert report.name_runs([runs.read_run(folders[0])]) == ['run']


def test_what_logs_and_configs_say_is_no_code(tmp_path):
    evil = '<script>alert("1")</script>'
    name = 'run <b>&'
    start(tmp_path / name, '20260101_000000', [
        {**train_line(50), f'decode.loss_{evil}': 1.}, {'mIoU': 30., f'x{evil}': 1., 'step': 50}],
        evil=evil, **{'model.backbone.layer_scale_init_value': evil})
    (tmp_path / name / '20260101_000000' / '20260101_000000.log').write_text(
        f'{"-" * 60}\nSystem environment:\n    Python: {evil}\n{"-" * 60}\n')
    text = report.render([runs.read_run(tmp_path / name)], ROOT / 'configs')
    assert evil not in text and '<b>&' not in text
    for section_ in ('losses', 'accuracy', 'config', 'environment'):
        assert evil in html.unescape(section(text, section_)) or section_ == 'losses', section_
    # In the charts' data, where JSON has its own way.
    assert '<script>' not in section(text, 'losses').replace('<script type="application/json">', '')
    assert any(f'decode.loss_{evil}' in label for label in legends(text))


def section(text, name):
    return text[text.index(f'<section id="{name}"'):].split('</section>')[0]


def visible(text):
    return html.unescape(re.sub('<[^>]+>', '|', text))


def charts(text):
    """The bokeh documents in a page."""
    return [json.loads(data) for data in re.findall('<script type="application/json">(.*?)</script>', text, re.S)]


def models(node, name):
    """Attributes of every model of a type in a document."""
    if isinstance(node, dict):
        if node.get('type') == 'object' and node.get('name') == name:
            yield node.get('attributes', {})
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from models(value, name)


def legends(text):
    return [item['label']['value'] for item in models(charts(text), 'LegendItem')]


LEGENDS = {
    'done', 'upernet', 'new', 'loss', 'loss_rpn_cls', 'loss_rpn_bbox', 's0.loss_cls', 'decode.loss_ce', 'aux.loss_ce',
    'box AP', 'mask AP', 'mIoU', 'base rate', 'first group', 'layer 00', 'layer 01', 'layer 02', 'resumed',
    'box AP published', 'mask AP published'}


def test_the_page_tells_what_the_logs_tell(page):
    text = page.read_text()
    # A label has the last value behind it.
    labels = {label[:8] if label.startswith('layer') else re.sub(r' [\de.+-]+$', '', label) for label in legends(text)}
    assert labels == LEGENDS
    overview = visible(section(text, 'overview'))
    for fact in ('published 50.4', '36 epochs', 'unfinished', '59', 'after iteration 8,000', 'none yet', '2.0 GiB'):
        assert fact in overview, fact
    accuracy = section(text, 'accuracy')
    assert legends(accuracy) == ['box AP 32.0', 'mask AP 26.7', 'box AP published 50.4', 'mask AP published 43.7',
                                 'mIoU 50.0']
    assert 'No figures yet' in accuracy and 'no published value' in accuracy
    assert 'No losses yet' in section(text, 'losses') and 'No learning rates yet' in section(text, 'learning-rates')
    predictions = section(text, 'predictions')
    assert predictions.count('<img') == 3 * 5 and predictions.count('No checkpoint yet') == 2
    ious = [float(iou) for iou in re.findall(r'IoU ([\d.]+)', predictions)]
    assert ious == sorted(ious)
    cost = visible(section(text, 'cost'))
    assert '741' in cost and '86' in cost and '939' in cost
    config = visible(section(text, 'config'))
    assert '|model.backbone.drop_path_rate|' in config and "|['type', " not in config and '|0.4|' in config
    assert '3.11.7' in section(text, 'environment')


def test_the_page_needs_no_network(page):
    text = page.read_text()
    # Bokeh's script has addresses in it, of which none is read (tests of the page in a browser).
    own = re.sub('<script>.*?</script>', '', text, flags=re.S)
    assert all(address.startswith(('data:', '#')) for address in re.findall('(?:src|href)="([^"]*)', own))
    own = re.sub('"data:image/jpeg;base64,[^"]*"', '""', own)
    assert not re.search(r'https?:|url\(|@import|\bsrc=[^"]', own) and "content=\"default-src 'none';" in own


def test_the_page_is_small(page):
    assert page.stat().st_size < 4e6


def test_what_a_section_lacks_is_said_in_its_place(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained / 'work_dirs', tmp_path / 'w')
    (tmp_path / 'w/cascade/iter_20.pth').write_bytes(b'no checkpoint')
    # Not in the folder of the data.
    report.write_report([tmp_path / 'w/cascade'], tmp_path, tmp_path / 'page.html')
    text = (tmp_path / 'page.html').read_text()
    assert 'Not available: ' in section(text, 'predictions') and 'does not exist' in section(text, 'predictions')
    assert 'no base to compare with' in section(text, 'config') and 'total' in section(text, 'cost')
    assert 'does not exist' in capsys.readouterr().err


def test_the_tool(page, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(report, 'predict_samples', lambda *args, **kwargs: ([], 0, 0))
    shutil.copytree(page.parent / 'done', tmp_path / 'done')
    assert run_command('report', [str(tmp_path / 'done')]) == 0
    assert capsys.readouterr().out == f'{tmp_path / "done" / "report.html"}\n'
    assert time.time() - (tmp_path / 'done' / 'report.html').stat().st_mtime < 600
    assert 'Traceback' not in (tmp_path / 'done' / 'report.html').read_text()
