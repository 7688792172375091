"""Images as the weights of a ConvNeXt were trained on them: RGB, ImageNet's mean and deviation, whole strides."""
from math import lcm

from convnext_mm.swap.edits import MISSING
from convnext_mm.utils.configs import type_name, walk

#: Of RGB in 0 to 255; what all published ConvNeXt weights, V2 included, were trained with.
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
_REASON = "ImageNet's mean and deviation of RGB, which the weights were trained with"
_ORDER = 'the weights take RGB; images are read as BGR'
#: Where mmengine's runner finds pipelines; helper variables of a config elsewhere are not read again.
_PIPELINES = ('train_dataloader', 'val_dataloader', 'test_dataloader', 'tta_pipeline', 'custom_hooks')
#: Preprocessors that pad a batch to a common size.
_PADDING = ('DetDataPreprocessor', 'TrackDataPreprocessor', 'BoxInstDataPreprocessor')


def set_inputs(edits, stride):
    """Normalise and pad images for a ConvNeXt, in data preprocessors and in pipelines that normalise.

    Args:
        edits (Edits): The config.
        stride (int): Pixels of the image per pixel of the coarsest map.
    """
    steps = [(path, node) for key in _PIPELINES for path, node in walk(edits.get((key,), ()), (key,))]
    # Albumentations count in parts of the greatest value, and have their own names for everything.
    foreign = [path for path, node in steps if type_name(node) == 'Albu']
    pipelines = [(path, node) for path, node in steps
                 if 'mean' in node and not any(path[:len(outer)] == outer for outer in foreign)]
    if any('mean' in node and (path, node) not in pipelines for path, node in steps):
        edits.warnings.append('Albu normalises images by itself, which stays: see that it does so for a ConvNeXt')
    normalising = [(path, node) for path, node in pipelines if type_name(node).endswith('Normalize')]
    for path, node in normalising:
        _set_statistics(edits, path, node, 'to_rgb')
    rgb = any(node.get('channel_order') == 'rgb' for _, node in walk(edits.cfg))
    preprocessors = [(path, node) for path, node in walk(edits.cfg) if path and path[-1] == 'data_preprocessor']
    for path, node in preprocessors:
        outermost = path == ('model', 'data_preprocessor')
        if node.get('mean') is not None or outermost and not normalising and 'data_preprocessor' not in node:
            _set_statistics(edits, path, node, 'to_rgb' if 'to_rgb' in node else 'bgr_to_rgb', rgb)
            if node.get('rgb_to_bgr'):
                edits.set((*path, 'rgb_to_bgr'), False, _ORDER)
        for key in ('pad_size_divisor', 'size_divisor'):
            if key == 'pad_size_divisor' and type_name(node) in _PADDING or node.get(key):
                edits.set((*path, key), lcm(node.get(key) or 1, stride),
                          f'whole strides of {stride}: a ConvNeXt drops what is left over at the border')
    for path, node in walk(edits.get(('model',)), ('model',)):
        if path[-1] == 'img_norm_cfg' and node.get('mean'):  # A tracker's, of the crops that it compares.
            _set_statistics(edits, path, node, 'to_rgb', rgb)
    for path, node in pipelines:
        if type_name(node) == 'Expand':
            edits.set((*path, 'mean'), list(MEAN), 'the border is filled with the mean, which is normalised to 0')
            edits.set((*path, 'to_rgb'), True, _ORDER)
    if normalising and any(node.get('mean') is not None for _, node in preprocessors):
        edits.warnings.append('images are normalised twice, in the pipeline and in the data preprocessor, as before')


def _set_statistics(edits, path, node, order_key, is_rgb=False):
    old = node.get('mean')
    times = max(len(old) // 3, 1) if old is not None else 1
    for key, values in (('mean', MEAN), ('std', STD)):
        if list(map(float, node.get(key) or ())) != [*values] * times:
            edits.set((*path, key), [*values] * times, _REASON)
    if times == 1 or edits.get((*path, order_key)) is not MISSING:
        edits.set((*path, order_key), not is_rgb, _ORDER)
