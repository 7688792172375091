"""A classifier that is fine-tuned on unmixed images; a head of other classes starts at a thousandth of the usual
scale."""
_base_ = './convnext_classifier.py'

model = dict(head=dict(init_cfg=dict(std=2e-5)), train_cfg=dict(_delete_=True))
