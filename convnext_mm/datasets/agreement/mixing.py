"""Compare the mixing of batches with what can be: probabilities, and the number of images that are mixed."""
from collections.abc import Mapping, Sequence
from typing import Any

from convnext_mm.utils.configs import is_classifier, type_name
from convnext_mm.utils.errors import UserError


def check_mixing(cfg: Any, splits: Sequence[str]) -> None:
    """Make sure that a classifier's batches can be mixed as its config says.

    Raises:
        UserError: They cannot; the message has the value and the config keys.
    """
    settings = cfg.model.get('train_cfg') or {}
    augments = settings.get('augments') if is_classifier(cfg.model) and 'train' in splits else None
    if not augments:
        return
    augments = [augments] if isinstance(augments, Mapping) else augments
    chances = settings.get('probs')
    chances = [chances] if isinstance(chances, float) else chances
    if chances is not None and (len(chances) != len(augments) or min(chances) < 0 or sum(chances) > 1):
        raise UserError(f'model.train_cfg.probs={list(chances)} are no probabilities of {len(augments)} augments: give '
                        'one for each, from 0 to 1, whose sum is 1 at most')
    loader = cfg.train_dataloader
    if any(type_name(augment) == 'MixupCutmix' for augment in augments) and (
            loader.batch_size % 2 or not loader.get('drop_last')):
        raise UserError(f'train_dataloader has batch_size={loader.batch_size} and drop_last={loader.get("drop_last")}, '
                        'but MixupCutmix mixes pairs: set an even train_dataloader.batch_size and '
                        'train_dataloader.drop_last=True')
