"""What all classifiers share around the backbone: mixed batches, smoothed labels, a linear layer."""
model = dict(
    type='ImageClassifier',
    # The transforms normalise.
    data_preprocessor=dict(type='ClsDataPreprocessor', num_classes=1000),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=768,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        # The official truncation lies at 100 deviations, which cuts nothing off.
        init_cfg=dict(type='Normal', layer='Linear', std=0.02, bias=0.)),
    train_cfg=dict(augments=dict(
        type='convnext_mm.datasets.transforms.MixupCutmix', mixup_alpha=0.8, cutmix_alpha=1.0)))
