"""The robustness of classifiers: sets on disk, figures from stored predictions, and the published data."""
import json
import random
import re
import shutil

import numpy as np
import pytest

from convnext_mm.evaluation import robustness
from convnext_mm.evaluation.cells import Cell, store_cell
from convnext_mm.evaluation.robustness import class_indices, find_cells, read_error, summarise
from convnext_mm.published.robustness import published_robustness
from convnext_mm.utils.errors import UserError

KNOWN = published_robustness()
CORRUPTIONS = KNOWN['sets']['imagenet-c']['corruptions']
#: Two corruptions and a few classes, for folders that a test can make.
SMALL = {
    'imagenet-c': dict(KNOWN['sets']['imagenet-c'], corruptions=['fog', 'snow'], classes=3),
    'imagenet-c-bar': dict(KNOWN['sets']['imagenet-c-bar'], corruptions={'sparkles': [1, 2, 3, 5, 6]}, classes=3),
    'imagenet-r': dict(KNOWN['sets']['imagenet-r'], classes=[1, 4]),
    'imagenet-a': KNOWN['sets']['imagenet-a'], 'imagenet-sketch': dict(KNOWN['sets']['imagenet-sketch'], classes=3)}


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Folders of class folders, without images."""
    monkeypatch.setattr(robustness, 'published_robustness', lambda: dict(KNOWN, sets=SMALL))
    folders = [f'imagenet-c/{c}/{s}' for c in ('fog', 'snow') for s in range(1, 6)]
    folders += [f'imagenet-c-bar/sparkles/{s}' for s in (1, 10, 2.5, 3, 9)]
    for folder, classes in (*((f, 3) for f in folders), ('imagenet-r', 2)):
        for number in range(classes):
            (tmp_path / 'data' / folder / f'n{number}').mkdir(parents=True)
    return tmp_path / 'data'


def test_published_data_is_whole():
    assert len(CORRUPTIONS) == 15 and set(KNOWN['alexnet_errors']) == set(CORRUPTIONS)
    assert all(len(errors) == 5 and all(0 < e < 1 for e in errors) for errors in KNOWN['alexnet_errors'].values())
    assert len(KNOWN['sets']['imagenet-c-bar']['corruptions']) == 10
    for name in ('imagenet-a', 'imagenet-r'):
        indices = class_indices(name)
        assert len(indices) == len(set(indices)) == 200 and indices == sorted(indices) and max(indices) < 1000
    assert len(set(class_indices('imagenet-a')) & set(class_indices('imagenet-r'))) == 86
    assert {len(row) for row in KNOWN['rows']} == {7} and len(KNOWN['rows']) == 10


def test_errors_of_alexnet():
    """Their means as another project has them, for every corruption (vtddggg/Robust-Vision-Transformer, utils.py)."""
    means = dict(gaussian_noise=.886428, shot_noise=.894468, impulse_noise=.92264, defocus_blur=.81988,
                 glass_blur=.826268, motion_blur=.785948, zoom_blur=.79836, snow=.866816, frost=.826572, fog=.819324,
                 brightness=.564592, contrast=.853204, elastic_transform=.646056, pixelate=.71784,
                 jpeg_compression=.6065)
    assert {c: np.mean(errors) for c, errors in KNOWN['alexnet_errors'].items()} == pytest.approx(means, abs=1e-9)


def test_alexnet_has_an_mce_of_100():
    assert robustness.mean_corruption_error(
        {c: [100 * e for e in errors] for c, errors in KNOWN['alexnet_errors'].items()}) / 100 == pytest.approx(100)


def test_cells(data):
    cells = find_cells(data)
    assert [cell.name for cell in cells] == [
        *(f'imagenet-c/{c}-{s}' for c in ('fog', 'snow') for s in range(1, 6)),
        *(f'imagenet-c-bar/sparkles-{s}' for s in range(1, 6)), 'imagenet-r']
    # Folders of C-bar have the strength for a name, and are no texts to sort.
    assert [cell.folder.name for cell in cells[10:15]] == ['1', '2.5', '3', '9', '10']
    assert [cell.dataset for cell in find_cells(data, ['imagenet-r'])] == ['imagenet-r']
    assert list(robustness.absent_sets(data)) == ['ImageNet-A', 'ImageNet-Sketch']


@pytest.mark.parametrize(('gone', 'sets', 'message'), [
    ('imagenet-c/fog/3', [], r'imagenet-c/fog has 4 severities \(1, 2, 4, 5\); expected 5'),
    ('imagenet-c/snow', [], 'imagenet-c lacks snow; .*zenodo'),
    ('imagenet-c/fog/2/n1', [], 'fog/2 has 2 class folders; ImageNet-C has 3'),
    ('imagenet-r/n0', ['imagenet-r'], 'imagenet-r has 1 class folders; ImageNet-R has 2'),
    ('', ['imagenet-a'], 'imagenet-a does not exist; expected ImageNet-A .*imagenet-a.tar'),
    ('all', [], 'holds none of imagenet-c, .*imagenet-sketch')])
def test_what_is_missing_is_named(data, gone, sets, message):
    if gone:
        shutil.rmtree(data / gone if gone != 'all' else data)
    with pytest.raises(UserError) as info:
        find_cells(data, sets)
    assert re.search(message, str(info.value)) and '\n' not in str(info.value)


def test_figures_equal_an_independent_computation(tmp_path):
    """On random predictions of all 75 cells, ten times five of C-bar, and of both sets of 200 classes."""
    rng = random.Random(0)
    cells = [Cell(name, tmp_path, c, s) for name in ('imagenet-c', 'imagenet-c-bar')
             for c in KNOWN['sets'][name]['corruptions'] for s in range(1, 6)]
    cells += [Cell(name, tmp_path) for name in ('imagenet-a', 'imagenet-r')]
    for cell in cells:
        classes = class_indices(cell.dataset)
        labels = [rng.choice(classes) for _ in range(20)]
        predicted = [a if rng.random() < .6 else rng.choice(classes) for a in labels]
        store_cell(tmp_path, cell, 'm', dict(labels=labels, predicted=predicted))
    found = summarise({cell: read_error(tmp_path, cell, 'm') for cell in cells})

    def errors(name):
        stored = {file.stem: json.loads(file.read_text()) for file in (tmp_path / name).glob('*.json')}
        return {stem: np.mean(np.array(p['labels']) != p['predicted']) for stem, p in stored.items()}
    of_c, of_bar = errors('imagenet-c'), errors('imagenet-c-bar')
    ce = [np.sum([of_c[f'{c}-{s}'] for s in range(1, 6)]) / np.sum(KNOWN['alexnet_errors'][c]) for c in CORRUPTIONS]
    assert found['imagenet-c']['value'] == pytest.approx(100 * np.mean(ce))
    assert found['imagenet-c']['error'] == pytest.approx(100 * np.mean(list(of_c.values())))
    assert found['imagenet-c-bar']['value'] == pytest.approx(100 * np.mean(list(of_bar.values())))
    assert found['imagenet-c']['errors']['fog'] == pytest.approx([100 * of_c[f'fog-{s}'] for s in range(1, 6)])
    for name in ('imagenet-a', 'imagenet-r'):
        stored = json.loads((tmp_path / f'{name}.json').read_text())
        right = np.mean(np.array(stored['labels']) == stored['predicted'])
        assert found[name]['value'] == pytest.approx(100 * right)
    text = robustness.format_summary(found, 'ConvNeXt-T')
    assert re.search(r'\| ImageNet-C \| mCE \| [\d.]+ \| 53.2 \| [\d.]+ \|', text)
    assert [line.split(' | ')[3] for line in text.splitlines()[2:]] == ['53.2', '40.0', '24.2', '47.2']


@pytest.mark.parametrize(('content', 'message'), [
    ('{"model": "x", "labels": [1], "predicted": [1]}', 'results of x, and this is m: give another --work-dir'),
    ('{"model": "m", "labels": [1], "predicted": [1, 2]}', 'holds no results'),
    ('{"model": "m", "labels": [], "predicted": []}', 'holds no results'), ('{', 'holds no results'),
    ('[]', 'holds no results')])
def test_predictions_of_another_model_are_refused(tmp_path, content, message):
    (tmp_path / 'imagenet-a.json').write_text(content)
    with pytest.raises(UserError, match=message):
        read_error(tmp_path, Cell('imagenet-a', tmp_path), 'm')
    assert read_error(tmp_path, Cell('imagenet-r', tmp_path), 'm') is None
