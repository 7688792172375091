"""The README's figures are the published ones, and what it points to exists."""
import re

import pytest

from convnext_mm.published.paper import published
from tests.helpers.paths import ROOT

README = (ROOT / 'README.md').read_text()
COLUMNS = {
    'coco': ('pretrain', 'box_ap', 'mask_ap', 'params_m', 'flops_g'),
    'ade20k': ('pretrain', 'crop_size', 'miou_single_scale', 'miou_multi_scale_flip', 'params_m', 'flops_g'),
}


@pytest.mark.parametrize(('task', 'row'), [(t, r) for t in COLUMNS for r in published()[t]], ids=lambda v: str(v)[:40])
def test_model_table(task, row):
    config = re.escape(row['config'])
    line, = re.findall(rf'^\| \[{config}\]\(configs/{config}\) \|(.*)\|$', README, re.M)
    cells = [cell.strip().removesuffix(' M').removesuffix(' G') for cell in line.split('|')]
    values = [row[key] for key in COLUMNS[task]]
    assert cells[:-1] == [str(v[0] if isinstance(v, list) else v) for v in values]


@pytest.mark.parametrize('path', sorted(set(re.findall(r'(?:configs|tools)/[\w/]+\.(?:py|sh)', README))))
def test_paths_exist(path):
    assert (ROOT / path).is_file()
