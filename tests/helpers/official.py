"""ConvNeXt as the papers have it."""
import torch
import torch.nn as nn
import torch.nn.functional as F

CLASSES = 7


class Official(nn.Module):
    """A ConvNeXt with the official names, computed by functions alone; written from the papers."""

    def __init__(self, arch, use_grn=False):
        super().__init__()
        depths, channels = arch
        self.use_grn, self.depths = use_grn, depths
        self.downsample_layers, self.stages = nn.ModuleList(), nn.ModuleList()
        for i, (depth, c) in enumerate(zip(depths, channels)):
            layers = [nn.Conv2d(3 if i == 0 else channels[i - 1], c, 4 if i == 0 else 2),
                      nn.LayerNorm(c if i == 0 else channels[i - 1])]
            self.downsample_layers.append(nn.Sequential(*(layers if i == 0 else layers[::-1])))
            self.stages.append(nn.Sequential(*(self._block(c) for _ in range(depth))))
        self.norm, self.head = nn.LayerNorm(channels[-1]), nn.Linear(channels[-1], CLASSES)

    def _block(self, c):
        block = nn.Module()
        block.dwconv, block.norm = nn.Conv2d(c, c, 7, groups=c), nn.LayerNorm(c)
        block.pwconv1, block.pwconv2 = nn.Linear(c, 4 * c), nn.Linear(4 * c, c)
        if self.use_grn:
            block.grn = nn.Module()
            block.grn.gamma, block.grn.beta = (nn.Parameter(torch.zeros(1, 1, 1, 4 * c)) for _ in range(2))
        else:
            block.gamma = nn.Parameter(torch.ones(c))
        return block

    def features(self, x):
        p, outputs = dict(self.named_parameters()), []

        def norm(x, name):
            return F.layer_norm(x, x.shape[-1:], p[f'{name}.weight'], p[f'{name}.bias'], 1e-6)

        for i in range(4):
            down = f'downsample_layers.{i}'
            conv = f'{down}.{int(i > 0)}'
            if i > 0:
                x = norm(x.permute(0, 2, 3, 1), f'{down}.0').permute(0, 3, 1, 2)
            x = F.conv2d(x, p[f'{conv}.weight'], p[f'{conv}.bias'], stride=2 if i else 4)
            if i == 0:
                x = norm(x.permute(0, 2, 3, 1), f'{down}.1').permute(0, 3, 1, 2)
            for j in range(self.depths[i]):
                b = f'stages.{i}.{j}'
                y = F.conv2d(x, p[f'{b}.dwconv.weight'], p[f'{b}.dwconv.bias'], padding=3, groups=x.shape[1])
                y = F.gelu(F.linear(norm(y.permute(0, 2, 3, 1), f'{b}.norm'), p[f'{b}.pwconv1.weight'],
                                    p[f'{b}.pwconv1.bias']))
                if self.use_grn:
                    g = (y ** 2).sum((1, 2), keepdim=True).sqrt()
                    y = p[f'{b}.grn.gamma'] * (y * g / (g.mean(-1, keepdim=True) + 1e-6)) + p[f'{b}.grn.beta'] + y
                y = F.linear(y, p[f'{b}.pwconv2.weight'], p[f'{b}.pwconv2.bias'])
                x = x + (y if self.use_grn else p[f'{b}.gamma'] * y).permute(0, 3, 1, 2)
            outputs.append(x)
        return outputs

    def forward(self, x):
        x = self.features(x)[-1].mean((2, 3))
        x = F.layer_norm(x, x.shape[-1:], self.norm.weight, self.norm.bias, 1e-6)
        return F.linear(x, self.head.weight, self.head.bias)
