"""Set AdamW with layer-wise learning rates in a config that gets a ConvNeXt.

Mask R-CNN, Cascade R-CNN and UPerNet take the paper's rate and decay for the size of the backbone. All others take
AdamW with rate 1e-4 and weight decay 0.05, and the decay of the paper's simplest recipe: Mask R-CNN's (by layer) for
detectors, UPerNet's (by stage) for segmentors. A config that trains with AdamW keeps it.
"""
from convnext_mm.published.paper import published
from convnext_mm.swap.edits import MISSING
from convnext_mm.utils.configs import is_segmentor, type_name, walk

CONSTRUCTOR = 'convnext_mm.LayerDecayOptimWrapperConstructor'
#: Keys of ``paramwise_cfg`` that the constructor takes besides its own.
_KEPT = ('norm_decay_mult', 'bias_decay_mult')
#: Names of parameters that plain and shifted-window transformers have and a ConvNeXt lacks.
_OF_TRANSFORMERS = ('absolute_pos_embed', 'relative_position_bias_table', 'cls_token', 'pos_embed', 'pos_block')


def find_recipe(model, arch, pretrained):
    """Return the paper's row for a model, and whether the paper has the model's own family.

    Args:
        model (dict): The config's model.
        arch (str | dict): Size of the backbone.
        pretrained (str | None): Its weights, which choose between rows that differ in nothing else.

    Returns:
        tuple[dict, bool]: The row of ``paper.json`` for ``arch``, or for the family's smallest size where the paper
        lacks this one; and whether the family is the model's own.
    """
    types = {type_name(node) for _, node in walk(model)}
    segments = any(is_segmentor(node) for _, node in walk(model))
    if segments:
        family = 'upernet' if 'UPerHead' in types else None
    else:
        family = {'MaskRCNN': 'mask_rcnn', 'CascadeRCNN': 'cascade'}.get(type_name(model))
    rows = published()['ade20k' if segments else 'coco']
    own = [row for row in rows if row['config'].startswith(f'{family or ("upernet" if segments else "mask_rcnn")}/')]
    return _closest(own, arch, pretrained) or own[0], family is not None


def _closest(rows, arch, pretrained):
    """Return the row of a size whose weights were trained on the same images, else the size's first, else None."""
    rows = [row for row in rows if row['arch'] == arch]
    is_22k = 'in22k' in (pretrained or '')
    return next((row for row in rows if ('22K' in row['pretrain']) == is_22k), rows[0] if rows else None)


def drop_path_rate(model, arch, pretrained):
    """Return the paper's stochastic depth for a size, of the model's own family if it has that size, or 0.1."""
    recipe, _ = find_recipe(model, arch, pretrained)
    if recipe['arch'] != arch:
        task = 'ade20k' if recipe in published()['ade20k'] else 'coco'
        recipe = _closest(published()[task], arch, pretrained)
    return recipe['drop_path_rate'] if recipe else .1


def set_optimizer(edits, arch, pretrained):
    """Put AdamW with layer decay into ``optim_wrapper``; the rest of it and the schedule stay."""
    wrapper = edits.get(('optim_wrapper',), None)
    if not wrapper:
        return
    recipe, is_family = find_recipe(edits.cfg['model'], arch, pretrained)
    optimizer, paramwise = wrapper.get('optimizer') or {}, wrapper.get('paramwise_cfg') or {}
    layers = dict(decay_rate=recipe['decay_rate'], decay_type=recipe['decay_type'])
    source = f"the paper's for {recipe['method']}" if is_family else f"as the paper's {recipe['method']}"
    if type_name(optimizer) == 'AdamW':
        layers.update(_kept(paramwise))
    else:
        adamw = dict(type='AdamW', lr=recipe['lr'], betas=tuple(recipe['betas']), weight_decay=recipe['weight_decay'])
        edits.set(('optim_wrapper', 'optimizer'), adamw,
                  f'{source}; {type_name(optimizer) or "this optimizer"} was for the old backbone')
        _scale_floors(edits, optimizer.get('lr'), adamw['lr'])
    edits.set(('optim_wrapper', 'constructor'), CONSTRUCTOR, 'learning rates fall from layer to layer of the backbone')
    edits.set(('optim_wrapper', 'paramwise_cfg'), layers, f'layer decay {source}')


def _kept(paramwise):
    """Return what an AdamW config's ``paramwise_cfg`` says of other parts than the old backbone."""
    kept = {key: paramwise[key] for key in _KEPT if key in paramwise}
    keys = {}
    for key, options in (paramwise.get('custom_keys') or {}).items():
        if key.startswith('backbone.') or key in _OF_TRANSFORMERS:
            continue
        if key == 'backbone':  # Its weight decay is the constructor's: none on norms, biases and layer scale.
            options = {k: v for k, v in options.items() if k == 'lr_mult' and v != 1}
        if options:
            keys[key] = options
    return {**kept, 'custom_keys': keys} if keys else kept


def _scale_floors(edits, old, new):
    """Scale ``eta_min`` and ``eta_max``, which are rates, with the rate of the optimizer."""
    if not old:
        return
    for path, node in list(walk(edits.get(('param_scheduler',), []), ('param_scheduler',))):
        if type_name(node).endswith('Momentum'):
            continue
        for key in ('eta_min', 'eta_max'):
            if isinstance(node.get(key, MISSING), (int, float)) and node[key]:
                edits.set((*path, key), float(f'{node[key] * new / old:.6g}'),
                          f'the same part of the rate as before ({old:g} is now {new:g})')
