"""Batches are mixed as timm's Mixup does, which the official repository uses."""
import numpy as np
import pytest
import torch

from convnext_mm.datasets.transforms import MixupCutmix
from convnext_mm.utils.errors import UserError

Mixup = pytest.importorskip('timm.data', reason='it mixes by timm').Mixup
utils = pytest.importorskip('mmpretrain.models.utils', reason='needs mmpretrain')
losses = pytest.importorskip('mmpretrain.models.losses', reason='needs mmpretrain')
structures = pytest.importorskip('mmpretrain.structures', reason='needs mmpretrain')

#: What the official ``main.py`` gives to timm's Mixup.
OFFICIAL = dict(mixup_alpha=0.8, cutmix_alpha=1.0, cutmix_minmax=None, prob=1.0, switch_prob=0.5, mode='batch',
                label_smoothing=0.1, num_classes=5)


def test_batches_and_losses_are_those_of_timm():
    preprocessor = utils.ClsDataPreprocessor(num_classes=5, batch_augments=dict(augments=dict(
        type='convnext_mm.datasets.transforms.MixupCutmix')))
    images, labels, logits = torch.randn(6, 3, 32, 32), torch.tensor([0, 1, 2, 3, 4, 1]), torch.randn(6, 5)
    loss, kinds = losses.LabelSmoothLoss(label_smooth_val=0.1, mode='original', num_classes=5), set()
    for seed in range(12):
        np.random.seed(seed)
        # mmpretrain draws which of its augments acts, of which there is one.
        np.random.choice(1, p=None)
        mixed, targets = Mixup(**OFFICIAL)(images.clone(), labels)
        np.random.seed(seed)
        samples = [structures.DataSample().set_gt_label(label) for label in labels]
        result = preprocessor(dict(inputs=images.clone(), data_samples=samples), training=True)
        assert torch.equal(result['inputs'], mixed)
        scores = torch.stack([sample.gt_score for sample in result['data_samples']])
        assert torch.allclose(scores * 0.9 + 0.1 / 5, targets, atol=1e-6)
        expected = torch.sum(-targets * logits.log_softmax(1), 1).mean()
        assert torch.allclose(loss(logits, scores), expected, atol=1e-6)
        # A pixel of Mixup is new; CutMix's are all of one of two images.
        same = (mixed == images) | (mixed == images.flip(0))
        kinds.add('cutmix' if same.all() else 'mixup')
    assert kinds == {'cutmix', 'mixup'}


@pytest.mark.parametrize(('arguments', 'words'), [
    (dict(prob=1.5), 'prob is a probability, from 0 to 1, got 1.5'),
    (dict(switch_prob=1.01), 'switch_prob is a probability, from 0 to 1, got 1.01'),
    (dict(prob=-0.1), 'prob must be a finite number of 0 or more, got -0.1'),
    (dict(mixup_alpha='much'), "mixup_alpha must be a finite number of 0 or more, got 'much'"),
    (dict(mixup_alpha=0, cutmix_alpha=0), 'mixes nothing'),
])
def test_what_cannot_be_is_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        MixupCutmix(**arguments)


def test_an_odd_batch_is_refused():
    with pytest.raises(UserError, match='a batch of 3 images cannot be mixed'):
        MixupCutmix()(torch.zeros(3, 3, 8, 8), torch.eye(3))
