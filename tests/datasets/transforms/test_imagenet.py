"""The tensors of ImageNet trainings are timm's bit for bit, and its operations those of the official version."""
import random

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from convnext_mm.datasets.transforms import ImageNetEvalTransform, ImageNetTrainTransform, MixupCutmix
from convnext_mm.utils.errors import UserError
from tests.helpers.paths import ROOT

default_loader = pytest.importorskip('torchvision.datasets.folder', reason='reads as timm does').default_loader
timm_data = pytest.importorskip('timm.data', reason="the transforms are timm's")
preprocessors = pytest.importorskip('mmpretrain.models.utils.data_preprocessor', reason='needs mmpretrain')
formatting = pytest.importorskip('mmpretrain.datasets.transforms.formatting', reason='needs mmpretrain')

PHOTOGRAPHS = sorted((ROOT.parent / 'shared/data').glob('*/images/*.jpg'))
#: Arguments of ``build_transform`` in the official ``datasets.py``; what it adds itself stands here as timm calls it.
TRAIN = dict(is_training=True, color_jitter=0.4, auto_augment='rand-m9-mstd0.5-inc1', interpolation='bicubic',
             re_prob=0.25, re_mode='pixel', re_count=1, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
TEST = dict(interpolation='bicubic', mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
TESTS = {224: dict(crop_pct=0.875), 384: dict(crop_pct=1.0, crop_mode='squash')}

KINDS = [('RGB', (300, 400, 3), 'jpg'), ('L', (90, 500), 'png'), ('RGBA', (224, 224, 4), 'png'),
         ('CMYK', (400, 260, 4), 'jpg'), ('LA', (256, 256, 2), 'png'), ('RGB', (31, 40, 3), 'bmp')]


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    """Write images of all kinds that have three channels or become so; return their paths."""
    folder, rng = tmp_path_factory.mktemp('drawn'), np.random.default_rng(0)
    files = []
    for mode, size, ending in KINDS:
        files.append(folder / f'{mode}{size[0]}.{ending}')
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8), mode=mode).save(files[-1])
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.open(files[0]).save(folder / 'turned.jpg', exif=exif)
    return [*files, folder / 'turned.jpg']


def receive(transform, files):
    """Return what the network gets for image files, through mmpretrain's packing and data preprocessor."""
    samples = [formatting.PackInputs()(transform(dict(img_path=str(file), gt_label=0))) for file in files]
    batch = dict(inputs=torch.stack([sample['inputs'] for sample in samples]),
                 data_samples=[sample['data_samples'] for sample in samples])
    return preprocessors.ClsDataPreprocessor(num_classes=3)(batch, training=True)['inputs']


def check_test(files, size):
    expected = timm_data.create_transform(size, is_training=False, **TEST, **TESTS[size])
    expected = torch.stack([expected(default_loader(str(file))) for file in files])
    assert torch.equal(receive(ImageNetEvalTransform(size), files), expected)


def check_training(files, size):
    def seed():
        # Crops and operations' strengths are drawn by `random`, operations by numpy, erased pixels by torch.
        random.seed(7)
        np.random.seed(7)
        torch.manual_seed(7)
    seed()
    expected = timm_data.create_transform(size, **TRAIN)
    expected = torch.stack([expected(default_loader(str(file))) for file in files])
    seed()
    received = receive(ImageNetTrainTransform(size), files)
    assert torch.equal(received, expected)


@pytest.mark.parametrize('size', TESTS)
@pytest.mark.parametrize('check', [check_test, check_training])
def test_tensors_are_those_of_timm(check, size, drawn):
    check(drawn * 3, size)


@pytest.mark.skipif(not PHOTOGRAPHS, reason='there are no photographs beside the repository')
@pytest.mark.parametrize('size', TESTS)
@pytest.mark.parametrize('check', [check_test, check_training])
def test_tensors_of_photographs_are_those_of_timm(check, size):
    check(PHOTOGRAPHS, size)


def test_mmpretrains_inferencer_takes_the_transform(drawn):
    """It loads images itself, as BGR."""
    from mmengine.config import Config
    from mmengine.registry import init_default_scope
    from mmpretrain.apis import ImageClassificationInferencer, get_model
    init_default_scope('mmpretrain')
    cfg = Config.fromfile(ROOT / 'configs/imagenet/convnext_t_in1k.py')
    cfg.merge_from_dict(dict(model=dict(backbone=dict(arch='atto'), neck=dict(in_channels=320),
                                        head=dict(in_channels=320))))
    model = get_model(cfg, device='cpu')
    image, = (file for file in drawn if file.suffix == '.bmp')
    found, = ImageClassificationInferencer(model)(str(image))
    with torch.no_grad():
        expected = model(receive(ImageNetEvalTransform(), [image])).softmax(1)[0].numpy()
    assert found['pred_scores'] == pytest.approx(expected, abs=1e-6)


def test_a_whole_image_is_warped_from_384_on(drawn):
    half = Image.new('RGB', (800, 400))
    half.paste((255, 255, 255), (400, 0, 800, 400))
    half.save(drawn[0].parent / 'half.png')
    tensor = receive(ImageNetEvalTransform(384), [drawn[0].parent / 'half.png'])[0, 0]
    assert (tensor[:, :185] == tensor.min()).all() and (tensor[:, 200:] == tensor.max()).all()


#: timm 0.3.2, the version of the official repository: operation -> its argument at magnitude 9 of 10, without sign.
#: Source: its ``data/auto_augment.py``.
OPERATIONS = {
    'AutoContrast': (), 'Equalize': (), 'Invert': (), 'Rotate': (27,), 'PosterizeIncreasing': (4 - 3,),
    'SolarizeIncreasing': (256 - 230,), 'SolarizeAdd': (99,), 'ColorIncreasing': (.81,), 'ContrastIncreasing': (.81,),
    'BrightnessIncreasing': (.81,), 'SharpnessIncreasing': (.81,), 'ShearX': (.27,), 'ShearY': (.27,),
    'TranslateXRel': (.405,), 'TranslateYRel': (.405,),
}
#: Enhancements are factors around 1.
FACTORS = {name for name in OPERATIONS if name.startswith(('Color', 'Contrast', 'Brightness', 'Sharpness'))}


def test_operations_ranges_and_probabilities_are_those_of_the_official_version():
    crop, flip, augment, normalise, erase = ImageNetTrainTransform(224).transform.transforms
    assert [type(t).__name__ for t in (crop, flip, augment, normalise, erase)] == [
        'RandomResizedCropAndInterpolation', 'RandomHorizontalFlip', 'RandAugment', 'NormalisedTensor', 'RandomErasing']
    assert (crop.scale, crop.ratio, flip.p) == ((.08, 1), (3 / 4, 4 / 3), .5)
    assert (augment.num_layers, augment.choice_weights) == (2, None)
    assert [op.name for op in augment.ops] == list(OPERATIONS)
    for op in augment.ops:
        assert (op.prob, op.magnitude, op.magnitude_std, op.magnitude_max or 10) == (.5, 9, .5, 10)
        assert op.hparams['img_mean'] == (124, 116, 104) and op.kwargs['fillcolor'] == (124, 116, 104)
        assert op.kwargs['resample'] == Image.Resampling.BICUBIC
        values = {op.level_fn(9, op.hparams) for _ in range(50)} if op.level_fn else {()}
        expected, = OPERATIONS[op.name] or ((),)
        signed = {expected}
        if op.name in FACTORS:
            signed = {1 + expected, 1 - expected}
        elif op.name.startswith(('Rotate', 'Shear', 'Translate')):
            signed = {expected, -expected}
        found = sorted(value[0] if value else () for value in values)
        assert found == (pytest.approx(sorted(signed)) if OPERATIONS[op.name] else [()]), op.name
    assert (erase.probability, erase.per_pixel, erase.min_count, erase.max_count) == (.25, True, 1, 1)
    assert (erase.min_area, erase.max_area) == (.02, 1 / 3)
    assert erase.log_aspect_ratio == pytest.approx((np.log(.3), np.log(1 / .3)))


@pytest.mark.parametrize('policy', ['rand-m9-mstd0.5-inc1', 'augmix-m9', 'originalr', 'v0r'])
def test_operations_work_at_every_strength(policy):
    """Also at the strongest: it is drawn in one of some hundred images, and would end a training."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))
    step = ImageNetTrainTransform(auto_augment=policy).transform.transforms[2]
    for op in getattr(step, 'ops', None) or [op for pair in step.policy for op in pair]:
        for op.magnitude in range(11):
            op.prob, op.magnitude_std = 1, 0
            changed = op(image)
            assert (changed.mode, changed.size) == ('RGB', image.size), (op.name, op.magnitude)
            if op.name == 'PosterizeIncreasing':
                # Source: Pillow before it refused: a mask of the upper bits, here 4 - 4 * magnitude / 10, of each byte.
                kept = 4 - int(op.magnitude / 10 * 4)
                assert np.array_equal(changed, np.asarray(image) & (256 - 2 ** (8 - kept))), op.magnitude


@pytest.mark.parametrize(('arguments', 'words'), [
    (dict(size=0), 'size must be an integer from 1 to 4096'),
    (dict(crop=3), "unexpected keyword argument 'crop'"),
])
def test_wrong_arguments_are_named(arguments, words):
    with pytest.raises(UserError, match=words):
        ImageNetEvalTransform(**arguments)


def test_without_timm_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'timm', None)
    for build in (ImageNetTrainTransform, ImageNetEvalTransform, MixupCutmix):
        with pytest.raises(UserError, match=r'pip install "convnext_mm\[pretrain\]"'):
            build()
