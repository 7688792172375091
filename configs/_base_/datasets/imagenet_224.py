"""ImageNet-1K at ``data/imagenet/``, images of 224, 128 images a GPU.

``train/`` and ``val/`` have a folder for each class. Images are augmented, and prepared for tests, as in the official
repository, by timm; the model's data preprocessor neither normalises nor exchanges channels.
"""


def loader(split, transform, train):
    return dict(
        batch_size=128,
        num_workers=10,
        persistent_workers=True,
        # Every step has a whole batch, as 312 steps of 4096 images an epoch have.
        drop_last=train,
        collate_fn=dict(type='default_collate'),
        sampler=dict(type='DefaultSampler', shuffle=train),
        dataset=dict(
            type='ImageNet', data_root='data/imagenet', split=split,
            pipeline=[dict(type=f'convnext_mm.ImageNet{transform}Transform', size=224), dict(type='PackInputs')]))


train_dataloader = loader('train', 'Train', True)
val_dataloader = loader('val', 'Eval', False)
test_dataloader = val_dataloader

val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_evaluator = val_evaluator
