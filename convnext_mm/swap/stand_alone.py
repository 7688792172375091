"""Change the settings of a model so that it can be tried without files, network or accelerator."""
from pathlib import Path

from convnext_mm.swap.edits import plain
from convnext_mm.swap.samples import WORDS
from convnext_mm.utils.configs import type_name, walk

#: Regions that a RoI head trains on or predicts; more of them take time and show nothing else.
REGIONS = 32


def make_stand_alone(model, folder):
    """Return settings of a model that need no weights from files and train wherever they are built.

    Args:
        model (dict): The config's model.
        folder (Path): For a language model, if one is needed.
    """
    settings = plain(model)
    for path, node in list(walk(settings)):
        _drop_files(node)
        if path and path[-1] == 'language_model':
            node['name'] = _tiny_language_model(folder)
        if 'lang_model_name' in node:
            node['lang_model_name'] = _tiny_language_model(folder)
        _lighten(node)
        _complete(node)
    return settings


def _drop_files(node):
    """Drop weights that come from files, and find the config of a teacher that mmdet brings along."""
    for key in ('pretrained', 'teacher_ckpt'):
        if key in node:
            node[key] = None
    if 'Pretrained' in str(node.get('init_cfg')):
        node['init_cfg'] = None
    if type_name(node) == 'AppearanceFreeLink':
        node['checkpoint'] = None
    if isinstance(node.get('teacher_config'), str):
        node['teacher_config'] = _installed(node['teacher_config'])


def _lighten(node):
    """Leave out work that shows nothing, and what needs several processes or an accelerator."""
    if type_name(node).endswith('Sampler') and isinstance(node.get('num'), int):
        node['num'] = min(node['num'], REGIONS)
    if isinstance(node.get('max_per_img'), int):
        node['max_per_img'] = min(node['max_per_img'], REGIONS)
    if type_name(node) == 'MMSyncBN':  # It asks for a process group when it is built.
        node['type'] = 'BN'
    node.pop('use_autocast', None)  # Mixed precision needs an accelerator, and changes no structure.
    if node.get('num_cp'):  # Recomputing activations takes a package, and changes no value.
        node['num_cp'] = 0


def _complete(node):
    """Add what training takes and configs for inference leave out."""
    if type_name(node) == 'ATSSVLFusionHead':  # Its default loss fails.
        node.setdefault('loss_bbox', dict(type='GIoULoss', loss_weight=2.))
    if type_name(node) == 'GroundingDINO' and not node.get('train_cfg'):
        node['train_cfg'] = dict(assigner=dict(type='HungarianAssigner', match_costs=[
            dict(type='BinaryFocalLossCost', weight=2.), dict(type='BBoxL1Cost', weight=5., box_format='xywh')]))


def _installed(config):
    """Return the path of a config that is named by its place in mmdet's repository, where mmdet brings it along."""
    import mmdet
    path = Path(mmdet.__file__).parent / '.mim' / config
    return str(path) if not Path(config).exists() and path.exists() else config


def _tiny_language_model(folder):
    """Write a BERT of one layer that knows letters into ``folder``, and return its path."""
    if not (folder / 'vocab.txt').exists():
        from transformers import BertConfig, BertModel, BertTokenizer
        letters = sorted({letter for word in WORDS for letter in word})
        vocabulary = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', '.', '?', *letters, *('##' + x for x in letters)]
        (folder / 'vocab.txt').write_text('\n'.join(vocabulary))
        BertTokenizer(str(folder / 'vocab.txt')).save_pretrained(folder)
        settings = BertConfig(vocab_size=len(vocabulary), num_hidden_layers=1, intermediate_size=64)
        BertModel(settings).save_pretrained(folder)
    return str(folder)


def fix_size(settings, size):
    """Return settings whose preprocessor neither pads beyond images of ``size`` nor changes their size."""
    settings = plain(settings)
    for path, node in walk(settings):
        if path and path[-1] == 'data_preprocessor':
            if 'batch_augments' in node:
                node['batch_augments'] = None
            if node.get('size') is not None or node.get('size_divisor') is not None:
                node.update(size=size, size_divisor=None)
    return settings


def semantic_scale(cfg):
    """Return the factor by which the training pipeline scales semantic maps, or 1."""
    return next((node.get('scale_factor', 1) for _, node in walk(cfg.get('train_dataloader') or {})
                 if type_name(node) == 'SegRescale'), 1)


def loads_masks(cfg):
    """Return whether the training pipeline loads masks: some losses need them, others fail on them."""
    # Panoptic annotations bring them unless told otherwise.
    return any(node.get('with_mask', type_name(node) == 'LoadPanopticAnnotations')
               for _, node in walk(cfg.get('train_dataloader') or {}))
