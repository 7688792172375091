"""A classifier is trained, tested, predicted and reported by the commands, as detectors are."""
import json
import os
import re

import numpy as np
import pytest
import torch
from PIL import Image

from convnext_mm.apis.cli import main as run_command
from convnext_mm.engine.run_status import read_status
from convnext_mm.models.ops import packed
from tests.helpers.classifiers import COLOURS, CONFIG, draw
from tests.helpers.instances import forget_instances
from tests.helpers.runs import start, train_line

for _toolbox in ('mmpretrain', 'timm'):
    pytest.importorskip(_toolbox, reason=f'the classifier needs {_toolbox}')


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """The folder of a training by the command: ``classifier.py``, ``data``, ``work``; ``plain.pth`` has the weights,
    which predict better than their average."""
    folder, before = tmp_path_factory.mktemp('classifier'), os.getcwd()
    draw(folder / 'data/train', 10, 0)
    draw(folder / 'data/val', 3, 1)
    (folder / 'classifier.py').write_text(CONFIG)
    os.chdir(folder)
    try:
        assert run_command('train', ['classifier.py', '--work-dir', 'work', '--cfg-options', 'randomness.seed=0']) == 0
        content = torch.load('work/epoch_3.pth', weights_only=True)
        content['state_dict'] = {name.removeprefix('module.'): tensor
                                 for name, tensor in content.pop('ema_state_dict').items() if name != 'steps'}
        torch.save(content, 'plain.pth')
        yield folder
    finally:
        os.chdir(before)


def validations(folder):
    """Return the metrics of each epoch of a training."""
    text = ''.join(path.read_text() for path in (folder / 'work').glob('*/vis_data/scalars.json'))
    return [line for line in map(json.loads, text.splitlines()) if 'accuracy/top1' in line]


def measure(checkpoint, *arguments):
    """Test a checkpoint by the command; return what it wrote."""
    assert run_command('test', ['classifier.py', str(checkpoint), '--work-dir', 'tested', *arguments]) == 0
    with open('tested/evaluation.json') as file:
        return json.load(file)


def test_the_average_and_the_weights_are_both_validated_and_kept(trained):
    lines = validations(trained)
    assert [line['step'] for line in lines] == [1, 2, 3]
    for kind in ('top1', 'top1_plain'):
        values = [line[f'accuracy/{kind}'] for line in lines]
        best = values.index(max(values)) + 1
        assert [path.name for path in trained.glob(f'work/best_accuracy_{kind}_epoch_*')] == [
            f'best_accuracy_{kind}_epoch_{best}.pth']
    last = lines[-1]
    assert last['accuracy/top1_plain'] > last['accuracy/top1']
    for file, kind in (('work/epoch_3.pth', ''), ('plain.pth', '_plain')):
        measured = {figure['key']: figure['measured'] for figure in measure(file)['figures']}
        assert measured == {key: last[f'{key}{kind}'] for key in ('accuracy/top1', 'accuracy/top5')}, file


def test_the_weights_of_four_blocks_are_laid_out_once_for_all_batches(trained, monkeypatch):
    laid_out, pack = [], packed.pack
    monkeypatch.setattr(packed, 'pack', lambda *args: laid_out.append(args) or pack(*args))
    measure('plain.pth')
    assert len(laid_out) == 8


@pytest.mark.parametrize(('reference', 'published'), [
    ('auto', {}), ('imagenet/convnext_s_in1k', {'top-1': 83.1}),
    ('imagenet/convnext_b_in22k_in1k', {'top-1': 85.8, 'top-5': 97.868})])
def test_top1_and_top5_stand_beside_the_published_row(trained, reference, published, capsys):
    scores, said = measure('work/epoch_3.pth', '--reference', reference), capsys.readouterr().out
    assert [figure['metric'] for figure in scores['figures']] == ['top-1', 'top-5'] and scores['images'] == 18
    for figure in scores['figures']:
        value = published.get(figure['metric'])
        assert figure['published'] == value
        assert figure['difference'] == (value and figure['measured'] - value)
        assert re.search(rf'{figure["metric"]} +{figure["measured"]:.2f} +{f"{value:.2f}" if value else "-"}', said)


def outputs(files):
    """Return {file: confidences} of the trained model."""
    from mmengine.config import Config
    from mmengine.registry import MODELS, init_default_scope

    from convnext_mm.datasets.transforms import ImageNetEvalTransform
    cfg = Config.fromfile('classifier.py')
    init_default_scope('mmpretrain')
    model = MODELS.build(cfg.model).eval()
    model.load_state_dict(torch.load('plain.pth', weights_only=True)['state_dict'])
    with torch.no_grad():
        return {file: model(ImageNetEvalTransform(32)(dict(img_path=file))['img'][None]).softmax(1)[0].numpy()
                for file in files}


def test_predictions_are_the_models(trained, texts):
    assert run_command('predict', ['classifier.py', 'plain.pth', 'data/val', '--out-dir', 'out']) == 0
    content = json.loads((trained / 'out/predictions.json').read_text())
    assert content['categories'] == [dict(id=i, name=name) for i, name in enumerate(COLOURS)]
    assert len(content['images']) == 18
    expected = outputs([entry['file_name'] for entry in content['images']])
    for entry in content['images']:
        scores, found = expected[entry['file_name']], entry['predictions']
        order = np.argsort(-scores)[:5]
        assert [prediction['category_id'] for prediction in found] == order.tolist()
        assert [prediction['name'] for prediction in found] == [list(COLOURS)[label] for label in order]
        assert [prediction['score'] for prediction in found] == pytest.approx(scores[order].tolist(), abs=1e-5)
        picture = np.array(Image.open(trained / 'out' / entry['picture']))
        assert picture.shape[1] >= 640 and picture.shape[0] > 512, 'a legend is below'
        # The image itself is shown, not what the network gets.
        mean = picture[100:400, 100:500].mean((0, 1))
        assert mean == pytest.approx(COLOURS[os.path.basename(entry['file_name']).split('_')[0]], abs=8)
    assert len(texts) == 18 * 5 and re.fullmatch(r'\w+ [01]\.\d\d', texts[0])


def test_a_preprocessor_beside_the_model_prepares_the_images(trained):
    """As in mmpretrain's own configs: images of bytes that the model normalises."""
    steps = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(32, 32)), dict(type='PackInputs')]
    (trained / 'beside.py').write_text(f"""
_base_ = './classifier.py'
model = dict(_delete_=True, **{{key: part for key, part in _base_.model.items() if key != 'data_preprocessor'}})
data_preprocessor = dict(num_classes=6, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
test_dataloader = dict(dataset=dict(pipeline={steps}))
""")
    for model in ('classifier', 'beside'):
        assert run_command('predict', [f'{model}.py', 'plain.pth', 'data/val', '--out-dir', f'{model}_out']) == 0
    exact, found = ([[one['score'] for one in sorted(entry['predictions'], key=lambda one: one['name'])]
                     for entry in json.loads((trained / f'{model}_out/predictions.json').read_text())['images']]
                    for model in ('classifier', 'beside'))
    # Images of one colour are resized alike by all.
    assert np.abs(np.array(exact) - np.array(found)).max() < .05


def test_the_most_confident_mistakes_are_reported_first(trained, monkeypatch):
    from convnext_mm.visualization.report import runs
    from convnext_mm.visualization.report import worst_samples as samples
    run = runs.read_run('work')
    worst, checked, size = samples.predict_samples(run.config, run.checkpoint)
    assert (checked, size, len(worst)) == (18, 18, samples.SHOWN)
    scores = [float(sample.measure.split()[1]) for sample in worst]
    assert scores == sorted(scores, reverse=True) and scores[0] > 0
    for sample in worst:
        true, (label, _) = sample.name.split('_')[0], sample.measure.split()
        assert label != true and sample.detail == f'wrong: it is {true}'
        assert sample.legend[0][0] == f'{true} ground truth' and sample.legend[1][0].startswith(f'{label} 0.')
        assert list(sample.panels) == ['image']
    monkeypatch.setattr(samples, 'SHOWN', 18)
    every = samples.predict_samples(run.config, 'plain.pth')[0]
    right = [sample.detail == 'right' for sample in every]
    assert right == sorted(right) and True in right, 'mistakes come first, the most confident at the top'
    sure = [float(sample.measure.split()[1]) for sample in every if sample.detail == 'right']
    assert sure == sorted(sure)


def test_the_report_shows_the_average_and_the_weights_over_time(trained):
    assert run_command('report', ['work', '--out', 'report.html']) == 0
    page = (trained / 'report.html').read_text()
    for kind in ('top1', 'top1_plain', 'top5'):
        assert f'<b>{validations(trained)[-1][f"accuracy/{kind}"]:.1f}</b> at epoch 3' in page
    for words in ('top-1', 'top-1 of the weights', 'top-5', 'ground truth', 'wrong: it is'):
        assert words in page, words
    assert 'Not available' not in page
    assert 'There is no published value for this config on this data.' in page


@pytest.mark.parametrize(('config', 'published'), [
    ('imagenet/convnext_t_in1k.py', 82.1), ('isotropic/convnext_iso_s_in1k.py', 79.7)])
def test_the_published_accuracy_is_a_line_of_the_chart(config, published, tmp_path):
    from convnext_mm.visualization.report import curves, runs
    lines = [train_line(312, 312), {'accuracy/top1': 1.5, 'accuracy/top1_plain': 3.5, 'accuracy/top5': 5.5, 'step': 1}]
    chart = curves.accuracy_chart(runs.read_run(start(tmp_path, '20260101_000000', lines, f'configs/{config}')))
    assert [(series.label, series.y) for series in chart.series] == [
        ('top-1', [1.5]), ('top-1 of the weights', [3.5]), ('top-5', [5.5])]
    assert [(level.label, level.y) for level in chart.levels] == [('top-1 published', published)]


def flatten(folder):
    """Put the images of all classes into one folder."""
    (folder / 'data').mkdir()
    for number in range(6):
        Image.new('RGB', (40, 40)).save(folder / f'data/{number}.png')
    return 'train', [f'train_dataloader.dataset.data_root={folder / "data"}']


def strip(folder):
    """Keep the folders of the classes alone."""
    for name in COLOURS:
        (folder / 'data' / name).mkdir(parents=True)
    return 'train', [f'train_dataloader.dataset.data_root={folder / "data"}']


def setting(*options, command='train'):
    return lambda folder: (command, options)


MISTAKES = {
    'no folders of classes': (flatten, r'data/ \(train_dataloader\.dataset\) has no folders of classes'),
    'empty folders': (strip, r'has 6 class folders \(.*\) without images'),
    'head of other classes': (setting('model.head.num_classes=5'),
                              r'has 6 classes \(.*\), but model\.head\.num_classes=5: set model\.head\.num_classes=6'),
    'one-hot of other classes': (setting('model.data_preprocessor.num_classes=5'),
                                 r'but model\.data_preprocessor\.num_classes=5: set model\.data_preproc'),
    'probability of mixing': (setting('model.train_cfg.augments.prob=1.5'), r'prob is a probability, from 0 to 1'),
    'switching': (setting('model.train_cfg.augments.switch_prob=2.'), r'switch_prob is a probability, from 0 to 1'),
    "probability of mmpretrain's": (setting('model.train_cfg.probs=1.5'), r'probs=\[1\.5\] are no probabilities'),
    'no mixing': (setting('model.train_cfg.augments.mixup_alpha=0', 'model.train_cfg.augments.cutmix_alpha=0'),
                  r'are both 0'),
    'batches of an odd size': (setting('train_dataloader.batch_size=5'), r'train_dataloader has batch_size=5'),
    'more ranks than classes': (setting('val_evaluator.topk=(1,7)'),
                                r'val_evaluator has Accuracy with topk=\(1, 7\), but the model has 6 classes'),
    'ranks of a test': (setting('test_evaluator.topk=9', command='test'), r'test_evaluator has Accuracy with topk='),
    'no data': (setting('test_dataloader.dataset.data_root=nowhere', command='test'),
                r'nowhere/ does not exist \(test_dataloader\.dataset\.data_root.*a folder of images for each class'),
}


@pytest.mark.parametrize('mistake', MISTAKES)
def test_mistakes_are_one_line(mistake, trained, tmp_path, capsys):
    make, said = MISTAKES[mistake]
    command, options = make(tmp_path)
    checkpoint = ['work/epoch_3.pth'] if command == 'test' else []
    assert run_command(command, ['classifier.py', *checkpoint, '--work-dir', str(tmp_path / 'out'),
                                 '--cfg-options', *options]) == 2
    assert re.search(said, capsys.readouterr().err.strip().splitlines()[-1])
    assert not [path for path in (tmp_path / 'out').rglob('*') if path.suffix in ('.pth', '.json', '.md')]


#: What the runner builds, and when: the model at once, the data with its loop, a metric last.
BUILT = [
    ('model.type=ImageClasifier', 'did you mean ImageClassifier'),
    ('model.head.colour=1', "LinearClsHead of the config cannot be built: .*'colour'"),
    ('{split}_dataloader.dataset.type=CustomDatset', 'CustomDatset is not in the'),
    ('{split}_dataloader.dataset.pipeline.1.type=PackImputs', 'PackImputs is not in the'),
    ('{split}_dataloader.sampler.type=DefaultSampeler', 'did you mean DefaultSampler'),
    ('default_hooks.logger.colour=1', "LoggerHook of the config cannot be built: .*'colour'"),
    ('visualizer.type=UniversalVisualiser', 'did you mean UniversalVisualizer'),
    ('val_evaluator.type=Acuracy test_evaluator.type=Acuracy', 'did you mean Accuracy')]
BUILT_TO_TRAIN = [
    ('optim_wrapper.colour=1', "OptimWrapper of the config cannot be built: .*'colour'"),
    ('optim_wrapper.optimizer.type=AdamZ', "optim_wrapper.optimizer.type='AdamZ'")]


@pytest.mark.parametrize(('command', 'options', 'said'), [
    *(('train', *case) for case in (*BUILT, *BUILT_TO_TRAIN)), *(('test', *case) for case in BUILT)])
def test_mistakes_in_what_the_runner_builds_are_one_line(command, options, said, trained, tmp_path, capsys):
    forget_instances()
    checkpoint = ['work/epoch_3.pth'] if command == 'test' else []
    assert run_command(command, ['classifier.py', *checkpoint, '--work-dir', str(tmp_path / 'out'), '--cfg-options',
                                 *options.format(split=command).split()]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(said, line), line
    assert not [path for path in (tmp_path / 'out').rglob('*') if path.suffix in ('.pth', '.md')]
    assert read_status(tmp_path / 'out').get('exit_code', 2) == 2


@pytest.mark.parametrize('command', ['test', 'predict', 'export'])
@pytest.mark.parametrize(('change', 'said'), [
    (lambda state: state.update({'head.fc.weight': torch.zeros(9, 32), 'head.fc.bias': torch.zeros(9)}),
     'another number of classes'),
    (lambda state: [state.pop(name) for name in ('head.fc.weight', 'head.fc.bias')], 'missing: head.fc'),
    (lambda state: state.update({'head.layers.0.weight': state.pop('head.fc.weight')}), 'head.layers.0.weight')])
def test_a_checkpoint_of_another_head_is_refused(command, change, said, trained, tmp_path, capsys):
    content = torch.load(trained / 'work/epoch_3.pth', weights_only=True)
    change(content['state_dict'])
    torch.save(dict(state_dict=content['state_dict']), tmp_path / 'other.pth')
    arguments = dict(test=['--work-dir', str(tmp_path / 'out')], export=[str(tmp_path / 'out/model.onnx')],
                     predict=['data/val/red', '--out-dir', str(tmp_path / 'out')])[command]
    assert run_command(command, ['classifier.py', str(tmp_path / 'other.pth'), *arguments]) == 2
    assert said in capsys.readouterr().err.strip().splitlines()[-1]
    assert not [path for path in (tmp_path / 'out').rglob('*') if path.suffix in ('.json', '.md', '.png', '.onnx')]
