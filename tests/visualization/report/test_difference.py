"""Two configs differ in the fields in which they differ."""
from convnext_mm.visualization.report.difference import config_difference


def test_difference():
    base = dict(a=1, b=dict(c=[1, 2], d=[dict(type='X', n=1), dict(type='Y')]), val_dataloader=dict(x=1),
                test_dataloader=dict(x=1), work_dir='old', gone=3)
    new = dict(a=1, b=dict(c=(1, 3), d=[dict(type='X', n=2), dict(type='Y')], e=True), val_dataloader=dict(x=2),
               test_dataloader=dict(x=2), work_dir='new')
    assert config_difference(base, new) == [
        ('b.c', [1, 2], [1, 3]), ('b.d.0.n', 1, 2), ('val_dataloader.x', 1, 2), ('gone', 3, None), ('b.e', None, True)]
    new['test_dataloader'] = dict(x=3)
    assert ('test_dataloader.x', 1, 3) in config_difference(base, new)
    assert config_difference(base, base) == []
