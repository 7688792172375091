"""Let what reads a backbone follow it when an option on the command line changes the channels that it emits."""
from collections.abc import Mapping

from mmengine.config import Config

from convnext_mm.swap.channels import set_channels
from convnext_mm.swap.consumers import find_reads
from convnext_mm.swap.edits import Edits
from convnext_mm.swap.errors import RefusedError
from convnext_mm.swap.sources import emitted
from convnext_mm.utils.configs import type_name

#: Backbones whose options change their channels, and that are built to be changed so.
FOLLOWED = ('ModernizedResNet',)
SLOT = ('model', 'backbone')


def refit_readers(cfg: Config, before: Mapping | None) -> None:
    """Write new channels of the backbone into the necks and heads that read it; do nothing where they stay.

    Args:
        cfg (mmengine.Config): With the new backbone; what reads it is changed in place. Readers that do not declare the
            old channels were changed by hand, and stay.
        before (dict, optional): The backbone as the config file has it; None where it has none.

    Raises:
        ArgumentValueError, ArgumentTypeError: The backbone's regime or step does not exist.
    """
    backbone = (cfg.get('model') or {}).get('backbone')
    if before is None or type_name(backbone) not in FOLLOWED or type_name(before) not in FOLLOWED:
        return
    scope = cfg.get('default_scope', 'mmengine')
    old, new = emitted(before, scope), emitted(backbone, scope)
    if old == new or len(old) != len(new):
        return
    edits = Edits(dict(model=cfg.model))
    try:
        reads = find_reads(edits, SLOT, old)
    except RefusedError:
        return
    set_channels(edits, reads, {i: feature.channels for i, feature in enumerate(new)}, {i: i for i in range(len(new))})
    for change in edits.changes:
        cfg.merge_from_dict({'.'.join(map(str, change.path)): change.new})
