"""ConvNeXt-T on ImageNet-22K."""
_base_ = './_base_in22k.py'
