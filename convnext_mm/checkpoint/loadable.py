"""The mixin that lets a backbone load checkpoints of any naming.

This package knows backbones by it, and so imports no model.
"""
import os
from collections.abc import Mapping

from mmengine.model import PretrainedInit

from convnext_mm.checkpoint.fit import adapt_state_dict, load_pretrained
from convnext_mm.utils.errors import ArgumentTypeError


def parse_init_cfg(init_cfg: Mapping | list | tuple | None) -> tuple[list, list]:
    """Return the entries of mmengine's ``init_cfg`` with the type ``Pretrained``, and the others.

    Args:
        init_cfg (dict | list[dict] | None): The user's.

    Raises:
        ArgumentTypeError: It is nothing of the kind, or an entry of ``Pretrained`` has a wrong checkpoint or prefix.
    """
    example = "dict(type='Pretrained', checkpoint='convnext_tiny_in1k')"
    entries = [init_cfg] if isinstance(init_cfg, Mapping) else init_cfg or []
    if not isinstance(entries, (list, tuple)) or not all(isinstance(entry, Mapping) and 'type' in entry
                                                         for entry in entries):
        raise ArgumentTypeError(f'init_cfg must be None, a dict with a type, such as {example}, or a list of such '
                                f'dicts, got {init_cfg!r}')
    pretrained = [entry for entry in entries if entry['type'] in ('Pretrained', PretrainedInit)]
    for entry in pretrained:
        if not isinstance(entry.get('checkpoint'), (str, os.PathLike)):
            raise ArgumentTypeError('init_cfg of type Pretrained must have a checkpoint, a path, an address or a '
                                    f'short name, as {example} has, got {dict(entry)!r}')
        if not isinstance(entry.get('prefix') or '', str):
            raise ArgumentTypeError("init_cfg['prefix'] must be text, such as 'backbone.', or None, got "
                                    f'{entry["prefix"]!r}')
    return pretrained, [entry for entry in entries if entry not in pretrained]


class LoadableBackbone:
    """Mixin, before mmengine's ``BaseModule``, of a backbone with the official names of stem, stages and norms.

    Such a backbone has ``depths``, ``channels``, ``in_channels``, ``out_indices`` and ``stages``; an isotropic
    one, of one stage, has ``blocks`` in place of ``stages``.
    """

    def init_weights(self):
        """Initialise as mmengine does, but let ``Pretrained`` take any checkpoint that ``load_pretrained`` takes.

        Raises:
            CheckpointError: The checkpoint cannot be had, or does not fit; the message says what and why.
        """
        pretrained, others = parse_init_cfg(self.init_cfg)
        if self.is_init or not pretrained:
            super().init_weights()
            return
        kept, self.init_cfg = self.init_cfg, others
        super().init_weights()
        self.init_cfg = kept
        for cfg in pretrained:
            load_pretrained(self, cfg['checkpoint'], cfg.get('prefix'))

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *args):
        adapt_state_dict(self, state_dict, prefix, local_metadata)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)
