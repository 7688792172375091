"""Check the backbone of a config, build its model, and load a checkpoint into it."""
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS

from convnext_mm.checkpoint.mmengine_loader import load_checkpoint, register_loader
from convnext_mm.models.convnext import ConvNeXt
from convnext_mm.models.isotropic_convnext import IsotropicConvNeXt
from convnext_mm.models.modernized_resnet import ModernizedResNet
from convnext_mm.models.packing import pack_weights
from convnext_mm.utils.configs import walk
from convnext_mm.utils.errors import UserError, describe_error


def check_backbone(cfg: Config) -> None:
    """Build every backbone of this project in a config on the meta device, to find wrong arguments at once.

    Raises:
        ArgumentValueError, ArgumentTypeError: Those of the backbone.
    """
    for _, node in walk(cfg.model):
        for kind in (ConvNeXt, IsotropicConvNeXt, ModernizedResNet):
            if node.get('type') in (f'convnext_mm.{kind.__name__}', kind):
                with torch.device('meta'):
                    kind(**{key: value for key, value in node.items() if key != 'type'})


def build_model(settings: Mapping) -> Any:
    """Return a model, or a part of one, by its part of a config, in eval mode and without the SyncBN of trainings.

    Raises:
        UserError: It cannot be built.
    """
    # Some models, such as those with a teacher, read checkpoints of their own.
    register_loader()
    try:
        with warnings.catch_warnings():
            # mmseg's advice on losses, at every UPerNet: none is computed here, and it would stand above an error.
            warnings.filterwarnings('ignore', module='mmseg')
            model = revert_sync_batchnorm(MODELS.build(settings))
    except UserError:
        raise
    except Exception as error:  # Models are mm's or the user's, and may raise anything.
        raise UserError(f'the model of the config cannot be built: {describe_error(error)}') from error
    # Backbones of mm return nothing from it.
    model.eval()
    return model


def load_model(settings: Mapping, checkpoint: str | Path) -> tuple[Any, Sequence[str] | None]:
    """Return a model that predicts with the weights of a checkpoint, and the classes that this names.

    It is built as :func:`build_model` does it, and its weights are packed (:func:`~.packing.pack_weights`).

    Args:
        settings (Mapping): The model's part of a config.
        checkpoint (str | Path): A path, an address or a short name.

    Returns:
        tuple[nn.Module, Sequence[str] | None]: The model, and the names of the classes; None where none are stored.

    Raises:
        UserError: The model cannot be built, or the checkpoint does not fit it.
    """
    model = build_model(settings)
    meta = load_checkpoint(model, str(checkpoint)).get('meta')
    pack_weights(model)
    meta = meta if isinstance(meta, Mapping) else {}
    stored = meta.get('dataset_meta') or {}
    # Older versions of mm write it in capitals, the oldest beside the state dict's other facts.
    return model, stored.get('classes') or stored.get('CLASSES') or meta.get('CLASSES')
