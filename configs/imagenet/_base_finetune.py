"""ConvNeXt fine-tuned on ImageNet-1K from the whole of a checkpoint: 30 epochs, images of 224."""
_base_ = [
    '../_base_/models/convnext_finetuned.py', '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet_finetune_30e.py', '../_base_/mmpretrain_runtime.py']

train_dataloader = dict(batch_size=32)
