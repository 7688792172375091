"""Find the backbones in a model that read images."""
from convnext_mm.swap.edits import dotted
from convnext_mm.swap.errors import NO_IMAGE, PACKAGE, RefusedError
from convnext_mm.utils.configs import type_name


def find_slots(edits):
    """Return the paths of the backbones to exchange; teachers with a checkpoint of their own stay, with a warning.

    Args:
        edits (Edits): The config.

    Returns:
        list[tuple]: At least one.

    Raises:
        RefusedError: There is none.
    """
    model, slots, points = edits.get(('model',)), [], []
    _search(model, ('model',), slots, points, edits.warnings)
    if model.get('teacher_config'):
        edits.warnings.append(f"the teacher stays: it is {model['teacher_config']} with its own checkpoint")
    if slots:
        return slots
    if points:
        raise RefusedError(NO_IMAGE, f'{points[0]} reads point clouds, not images')
    if str(model.get('type', '')).endswith('Detectron2Wrapper'):
        raise RefusedError(PACKAGE, "the model is detectron2's, built from its own config by a package of its own")
    raise RefusedError(NO_IMAGE, f'{type_name(model) or "the model"} has no backbone that reads images')


def _search(node, path, slots, points, warnings):
    """Add the backbones below a node to ``slots``, and types of those that read point clouds to ``points``."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        here = (*path, key)
        checkpoint = _teacher_checkpoint(node, key, value)
        if checkpoint:
            warnings.append(f'{dotted(here)} stays: the teacher has its weights from {checkpoint}')
        elif _is_backbone(key, value):
            # What is inside a backbone is its own business.
            if key == 'pts_backbone':
                points.append(type_name(value))
            elif key != 'rfp_backbone':
                slots.append(here)
        elif isinstance(value, (dict, list, tuple)):
            _search(value, here, slots, points, warnings)


def _is_backbone(key, value):
    return isinstance(key, str) and key.endswith('backbone') and isinstance(value, dict) and bool(value.get('type'))


def _teacher_checkpoint(node, key, value):
    """Return the checkpoint of a part that is a teacher, or the backbone of one; None for all else."""
    if _is_backbone(key, value) and key.startswith('teacher_'):
        return node.get('teacher_ckpt')
    settings = value.get('init_cfg') if key == 'teacher' and isinstance(value, dict) else None
    return settings.get('checkpoint') if 'Pretrained' in str(settings) else None
