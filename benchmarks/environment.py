"""What figures depend on besides the code: hardware, threads, versions and settings."""
import datetime
import os
import platform
import re
from importlib import metadata
from pathlib import Path

import torch

import convnext_mm

#: What matrix products and half precision run on.
FLAGS = ('avx2', 'fma', 'avx512f', 'avx512_vnni', 'avx512_bf16', 'avx512_fp16', 'amx_tile', 'amx_bf16', 'asimd', 'bf16',
         'sve')
DISTRIBUTIONS = ('torch', 'torchvision', 'timm', 'mmengine', 'onedl-mmengine', 'mmcv', 'mmcv-lite', 'onedl-mmcv',
                 'mmdet', 'onedl-mmdetection', 'mmsegmentation', 'onedl-mmsegmentation', 'mmpretrain',
                 'onedl-mmpretrain')


def _cpu():
    """Return the model name and the flags of ``FLAGS`` that the processor has."""
    text = Path('/proc/cpuinfo').read_text() if os.path.exists('/proc/cpuinfo') else ''
    name = re.search(r'^model name\s*: (.*)$', text, re.M)
    flags = re.search(r'^(?:flags|Features)\s*: (.*)$', text, re.M)
    flags = flags.group(1).split() if flags else []
    return name.group(1) if name else platform.processor() or platform.machine(), [f for f in FLAGS if f in flags]


def _versions():
    found = {}
    for name in DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def device():
    """Return ``cuda`` where there is a GPU, else ``cpu``."""
    return 'cuda' if torch.cuda.is_available() else 'cpu'


def has_bfloat16():
    """Return whether bfloat16 gains anything: on a CPU, whether oneDNN computes in it (AVX-512)."""
    return device() == 'cuda' or torch.ops.mkldnn._is_mkldnn_bf16_supported()


def set_tf32(on):
    """Set whether a GPU rounds float32 to TF32; torch's defaults differ between products and convolutions."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = on


def describe():
    """Return the environment of a measurement, ready for JSON."""
    name, flags = _cpu()
    found = dict(
        device=device(), cpu=name, cpu_flags=flags, cpu_capability=torch.backends.cpu.get_cpu_capability(),
        cores=len(os.sched_getaffinity(0)), threads=torch.get_num_threads(), load=os.getloadavg()[0],
        mkldnn=torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled,
        mkl=torch.backends.mkl.is_available(),
        python=platform.python_version(), system=platform.platform(), convnext_mm=convnext_mm.__version__,
        versions=_versions(), date=datetime.date.today().isoformat())
    if found['device'] == 'cuda':
        found.update(gpu=torch.cuda.get_device_name(), cuda=torch.version.cuda, cudnn=torch.backends.cudnn.version(),
                     tf32_products=torch.backends.cuda.matmul.allow_tf32,
                     tf32_convolutions=torch.backends.cudnn.allow_tf32,
                     cudnn_benchmark=torch.backends.cudnn.benchmark)
    return found


def file_name(environment):
    """Return a name for the results of some hardware: ``intel-r-xeon-r-processor-2-threads``."""
    text = environment.get('gpu') or '{cpu} {cpu_capability} {threads} threads'.format(**environment)
    return re.sub(r'[^a-z0-9]+', '-', text.lower()).strip('-')


def describe_in_words(environment):
    """Return one line: hardware, threads, torch."""
    hardware = environment.get('gpu') or (f'{environment["cpu"]} ({", ".join(environment["cpu_flags"])}), '
                                          f'{environment["threads"]} threads')
    return f'{hardware}, torch {environment["versions"]["torch"]}, {environment["date"]}'
