"""Give a ConvNeXt the images that its weights were trained with: RGB, ImageNet's statistics, whole strides.

Images of another number of channels, and what normalises them, stay as they are: nobody publishes statistics of them.
"""
from math import lcm

from convnext_mm.swap.edits import MISSING
from convnext_mm.utils.configs import type_name, walk

#: Mean and deviation of RGB in 0 to 255, with which all published ConvNeXt weights were trained, V2 included.
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
_REASON = "ImageNet's mean and deviation of RGB, which the weights were trained with"
_ORDER = 'the weights take RGB; images are read as BGR'
#: Where mmengine's runner finds pipelines; it does not read the other variables of a config.
_PIPELINES = ('train_dataloader', 'val_dataloader', 'test_dataloader', 'tta_pipeline', 'custom_hooks')
#: Preprocessors that pad a batch to a common size.
_PADDING = ('DetDataPreprocessor', 'TrackDataPreprocessor', 'BoxInstDataPreprocessor')


def set_inputs(edits, stride):
    """Normalise and pad images for a ConvNeXt, in data preprocessors and in pipelines that normalise.

    Args:
        edits (Edits): The config.
        stride (int): Pixels of the image per pixel of the coarsest map.
    """
    steps = _find_steps(edits)
    normalising = [(path, node) for path, node in steps if type_name(node).endswith('Normalize')]
    if _read_rgb(edits):
        _set_colours(edits, steps, normalising)
    for path, node in _preprocessors(edits):
        _set_padding(edits, path, node, stride)


def _read_rgb(edits):
    """Return whether every backbone that was put in reads images of three channels."""
    return all(change.new.get('in_channels', len(MEAN)) == len(MEAN) for change in edits.changes
               if change.is_backbone and isinstance(change.new, dict))


def _preprocessors(edits):
    return [(path, node) for path, node in walk(edits.cfg) if path and path[-1] == 'data_preprocessor']


def _set_colours(edits, steps, normalising):
    """Set the statistics and the order of channels of everything that knows them."""
    for path, node in normalising:
        _set_statistics(edits, path, node, 'to_rgb')
    is_rgb = any(node.get('channel_order') == 'rgb' for _, node in walk(edits.cfg))
    preprocessors = _preprocessors(edits)
    for path, node in preprocessors:
        outermost = path == ('model', 'data_preprocessor') and 'data_preprocessor' not in node
        if node.get('mean') is not None or outermost and not normalising:
            _set_statistics(edits, path, node, 'to_rgb' if 'to_rgb' in node else 'bgr_to_rgb', is_rgb)
            if node.get('rgb_to_bgr'):
                edits.set((*path, 'rgb_to_bgr'), False, _ORDER)
    for path, node in walk(edits.get(('model',)), ('model',)):
        if path[-1] == 'img_norm_cfg' and node.get('mean'):  # A tracker's, of the crops that it compares.
            _set_statistics(edits, path, node, 'to_rgb', is_rgb)
    for path, node in steps:
        if type_name(node) == 'Expand':
            edits.set((*path, 'mean'), list(MEAN), 'the border is filled with the mean, which is normalised to 0')
            edits.set((*path, 'to_rgb'), True, _ORDER)
    if normalising and any(node.get('mean') is not None for _, node in preprocessors):
        edits.warnings.append('images are normalised twice, in the pipeline and in the data preprocessor, as before')


def _find_steps(edits):
    """Return the steps of pipelines that have a mean; those inside Albumentations stay, with a warning."""
    steps = [(path, node) for key in _PIPELINES for path, node in walk(edits.get((key,), ()), (key,))]
    # Albumentations count in parts of the greatest value, and have their own names for everything.
    foreign = [path for path, node in steps if type_name(node) == 'Albu']
    steps = [(path, node) for path, node in steps if 'mean' in node]
    own = [(path, node) for path, node in steps if not any(path[:len(outer)] == outer for outer in foreign)]
    if len(own) < len(steps):
        edits.warnings.append('Albu normalises images by itself, which stays: see that it does so for a ConvNeXt')
    return own


def _set_padding(edits, path, node, stride):
    """Pad images to whole strides, in a preprocessor that pads."""
    for key in ('pad_size_divisor', 'size_divisor'):
        if node.get(key) or key == 'pad_size_divisor' and type_name(node) in _PADDING:
            edits.set((*path, key), lcm(node.get(key) or 1, stride),
                      f'whole strides of {stride}: a ConvNeXt drops what is left over at the border')


def _set_statistics(edits, path, node, order_key, is_rgb=False):
    """Set mean, deviation and order of channels; images of several times three channels keep their order.

    A number of means that three does not divide is of images that another part of the model reads, and stays.
    """
    old = node.get('mean')
    times, left = divmod(len(old), len(MEAN)) if old is not None and len(old) > 1 else (1, 0)
    if left:
        return
    for key, values in (('mean', MEAN), ('std', STD)):
        if list(map(float, node.get(key) or ())) != [*values] * times:
            edits.set((*path, key), [*values] * times, _REASON)
    if times == 1 or edits.get((*path, order_key)) is not MISSING:
        edits.set((*path, order_key), not is_rgb, _ORDER)
