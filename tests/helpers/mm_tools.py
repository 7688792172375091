"""The commands of mm's own tools for a config of this project, and the files that they need."""
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent

from convnext_mm.datasets import shapes
from tests.helpers.paths import ROOT

#: The configs of the demo.
DEMOS = dict(det='demo/cascade.py', seg='demo/upernet.py')
#: A config of one's own on one of the project's, for two images on a CPU, in every tool of mm.
OWN = """
    _base_ = {base}
    # mmengine's mixed precision needs an accelerator.
    optim_wrapper = dict(type='OptimWrapper')
    train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False)
    val_dataloader = dict(num_workers=0, persistent_workers=False)
    test_dataloader = val_dataloader
    default_hooks = dict(logger=dict(interval=1), visualization=dict(interval=1),
                         checkpoint=dict(interval={length}, save_best=None, max_keep_ckpts=-1))
"""
#: What differs: the loop and the metric are this project's own, to be found by their names.
TASK = dict(
    det="""
    train_cfg = dict(type='convnext_mm.EpochBasedTrainLoop', max_epochs=1, val_interval=1)
    val_evaluator = dict(type='convnext_mm.CocoMetric')
    test_evaluator = val_evaluator
    """,
    seg="""
    train_cfg = dict(type='convnext_mm.IterBasedTrainLoop', max_iters=2, val_interval=2)
    val_evaluator = dict(type='convnext_mm.IoUMetric')
    test_evaluator = val_evaluator
    """)
DETECT = """
    import sys
    from mmdet.apis import DetInferencer, inference_detector, init_detector
    config, checkpoint, image = sys.argv[1:]
    found = inference_detector(init_detector(config, checkpoint, device='cpu'), image).pred_instances
    assert found.bboxes.shape[1] == 4 and len(found.masks) == len(found.labels)
    inferencer = DetInferencer(model=config, weights=checkpoint, device='cpu')
    found, = inferencer(image, out_dir='inferred')['predictions']
    assert {'labels', 'scores', 'bboxes'} <= {*found}, found.keys()
"""
SEGMENT = """
    import sys
    from mmseg.apis import MMSegInferencer, inference_model, init_model
    config, checkpoint, image = sys.argv[1:]
    found = inference_model(init_model(config, checkpoint, device='cpu'), image).pred_sem_seg.data
    inferencer = MMSegInferencer(model=config, weights=checkpoint, device='cpu')
    predicted = inferencer(image, out_dir='inferred')['predictions']
    assert found.shape[1:] == predicted.shape and (found[0].numpy() == predicted).mean() > .95
"""
BUILD = """
    import sys, torch
    from mmengine.config import Config
    from mmengine.registry import MODELS, init_default_scope
    for file in sys.argv[1:]:
        cfg = Config.fromfile(file)
        init_default_scope(cfg.default_scope)
        with torch.device('meta'), MODELS.switch_scope_and_registry(None) as registry:
            print(file, sum(p.numel() for p in registry.build(cfg.model).parameters()))
"""

#: What fails in the classic mmseg, whatever the config: ``{tool: the end of what it says}``.
CLASSIC_FAULTS = {
    # mmengine takes one of the two since 0.8.
    'get_flops': r'"input_shape" and "inputs" cannot be both set',
    # The image is a view with its channels first in memory.
    'browse_dataset': r'Layout of the output array img is incompatible',
    # Zero is taken off from labels that have lost it already.
    'confusion_matrix': r'cannot reshape array of size \d+ into shape \(4,4\)'}


def known_fault(task, name):
    """What mm itself gets wrong in a tool, for every config: a pattern of its message, or None."""
    is_classic = 'mmsegmentation' in packages_distributions().get('mmseg', ())
    return CLASSIC_FAULTS.get(name) if task == 'seg' and is_classic else None


def tool(package, name):
    """The path of one of the tools that came with mmdet or mmseg."""
    return Path(find_spec(package).origin).parent / '.mim' / 'tools' / f'{name}.py'


def prepare(folder, task, config):
    """Draw data, write the config of one's own on a path or a config of this project, and scripts that call mm.

    Returns:
        str: Path of an image from ``folder``.
    """
    write, data, images = dict(det=(shapes.generate_coco, 'coco', 'val2017'),
                               seg=(shapes.generate_ade, 'ade', 'images/validation'))[task]
    write(folder / 'data/shapes' / data, train=2, val=1, width=96, height=80)
    base = repr(config) if config.startswith('/') else f"__import__('convnext_mm').config({config!r})"
    own = dedent(OWN.format(base=base, length=1 if task == 'det' else 2)) + dedent(TASK[task])
    scripts = {'own': own, 'apis': DETECT if task == 'det' else SEGMENT, 'build': BUILD}
    for name, text in scripts.items():
        (folder / f'{name}.py').write_text(dedent(text).lstrip())
    image, = (folder / 'data/shapes' / data / images).glob('*.png')
    return str(image.relative_to(folder))


def commands(task, image=''):
    """``{name: command}`` of every tool."""
    package, file = ('mmdet', 'epoch_1.pth') if task == 'det' else ('mmseg', 'iter_2.pth')
    trained, dumped = f'work/{file}', 'ours/2*/vis_data/config.py'
    longer = ('train_cfg.max_epochs=2', 'train_cfg.val_interval=9') if task == 'det' else (
        'train_cfg.max_iters=3', 'train_cfg.val_interval=9')
    train, test = tool(package, 'train'), tool(package, 'test')
    every = {
        'print_config': [tool(package, 'misc/print_config'), 'own.py'],
        'train': [train, 'own.py', '--work-dir', 'work'],
        # This project's training adds hooks; mm's own tools go on with what it dumped.
        'our_train': [ROOT / 'tools' / 'train.py', 'own.py', '--work-dir', 'ours', '--cfg-options', longer[1]],
        'resume': [train, dumped, '--work-dir', 'work', '--resume', '--cfg-options', *longer],
        'test': [test, dumped, trained, '--work-dir', 'tested', '--out', 'results.pkl' if task == 'det' else 'results',
                 '--show-dir', 'shown'],
        'apis': ['apis.py', 'own.py', trained, image]}
    if task == 'det':
        return {**every,
                'get_flops': [tool(package, 'analysis_tools/get_flops'), 'own.py'],
                'browse_dataset': [tool(package, 'analysis_tools/browse_dataset'), 'own.py', '--not-show',
                                   '--output-dir', 'browsed'],
                'confusion_matrix': [tool(package, 'analysis_tools/confusion_matrix'), 'own.py', 'results.pkl',
                                     'matrix'],
                'analyze_results': [tool(package, 'analysis_tools/analyze_results'), 'own.py', 'results.pkl',
                                    'analyzed', '--topk', 1],
                'publish_model': [tool(package, 'model_converters/publish_model'), trained, 'published.pth']}
    return {**every,
            'tta': [test, 'own.py', trained, '--work-dir', 'tta', '--tta'],
            'get_flops': [tool(package, 'analysis_tools/get_flops'), 'own.py', '--shape', 160, 160],
            'browse_dataset': [tool(package, 'misc/browse_dataset'), 'own.py', '--not-show', '--output-dir',
                               'browsed'],
            'confusion_matrix': [tool(package, 'analysis_tools/confusion_matrix'), 'own.py', 'results', 'matrix'],
            'publish_model': [tool(package, 'misc/publish_model'), trained, 'published.pth']}
