"""Compare the classes of a data set with what the heads of a model predict, in a config."""
import os
from collections.abc import Iterator, Mapping, Sequence

from convnext_mm.datasets.reading import read_classes
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.text import shorten

#: Where a model says how many classes it has: in heads, and in mmpretrain's preprocessor, which mixes labels.
PLACES = (('roi_head', 'bbox_head'), ('roi_head', 'mask_head'), ('bbox_head',), ('decode_head',), ('auxiliary_head',),
          ('head',), ('data_preprocessor',))
#: Names up to this number stand in a message.
FEW = 20


def dataset_classes(dataset: Mapping, kind: type) -> Sequence[str] | None:
    """Return the names of the classes that a data set labels; None where only its files know.

    Args:
        dataset (Mapping): Its part of the config.
        kind (type): Its class.
    """
    classes = (dataset.get('metainfo') or {}).get('classes')
    if classes is None:
        return getattr(kind, 'METAINFO', {}).get('classes')
    if isinstance(classes, str):
        # mmengine takes the name of a text file with a class on each line.
        return read_classes(classes) if os.path.isfile(classes) else [classes]
    return classes


def head_classes(model: Mapping) -> Iterator[tuple[str, int]]:
    """Yield (config key, num_classes) of every part that knows the data set's classes one by one."""
    if 'num_things_classes' in str(model) or 'language_model' in model:
        return
    for path in PLACES:
        node = model
        for name in path:
            node = node.get(name) or {} if isinstance(node, Mapping) else {}
        heads = node if isinstance(node, Sequence) else [node]
        for i, head in enumerate(heads):
            # With `out_channels`, mmseg's heads predict another number of maps; STDC's auxiliary head predicts edges.
            special = head.get('class_agnostic') or head.get('out_channels') or head.get('type') == 'STDCHead'
            if isinstance(head.get('num_classes'), int) and not special:
                index = f'.{i}' if isinstance(node, Sequence) else ''
                yield f'model.{".".join(path)}{index}.num_classes', head['num_classes']


def _heads_of_other_size(model, classes):
    return [(head, number) for head, number in head_classes(model) if number != len(classes)]


def settings_for(model: Mapping, classes: Sequence[str], key: str) -> str:
    """Return the ``--cfg-options`` that fit the heads and the data set at ``key`` to ``classes``."""
    heads = ' '.join(f'{head}={len(classes)}' for head, _ in _heads_of_other_size(model, classes))
    names = ','.join(f"'{name}'" for name in classes)
    names = f'"({names},)"' if len(classes) <= FEW else 'FILE, a text file with a name on each line'
    return ' and '.join(filter(None, [heads, f'for each data set {key}.metainfo.classes={names}']))


def check_heads(model: Mapping, classes: Sequence[str], key: str) -> None:
    """Make sure that every head predicts as many classes as the data set at ``key`` has.

    Raises:
        UserError: Some do not; the message names the config keys to set.
    """
    wrong = _heads_of_other_size(model, classes)
    if wrong:
        raise UserError(f'{key} has {len(classes)} classes ({shorten(classes)}), but '
                        + ', '.join(f'{head}={number}' for head, number in wrong) + ': set '
                        + ' '.join(f'{head}={len(classes)}' for head, _ in wrong)
                        + f', or {key}.metainfo.classes to the classes of the heads')
