"""The text of a config in a checkpoint is read as mmengine would, and never executed."""
import pytest
from mmengine.config import Config

from convnext_mm.engine.stored_config import ABSENT, differences, read_present, read_stored


@pytest.mark.parametrize(('text', 'settings'), [
    ("a = 1\nb = dict(type='B', lr=-1e-3, inner=dict(x=None, y=[1, (2, 3)]))",
     dict(a=1, b=dict(type='B', lr=-1e-3, inner=dict(x=None, y=[1, [2, 3]])))),
    ("a = dict({'x.y': dict(z=True)})", dict(a={'x.y': dict(z=True)})),
    ("{'a b': 1, 'c': dict(d=2)}", {'a b': 1, 'c': dict(d=2)}),
    ('a = mmdet.models.RPN\nb = -inf', dict(a='mmdet.models.RPN', b='-inf')),
    # What would be executed is text.
    ("a = open('/tmp/x', 'w')\nimport os\nos.abort()", dict(a="open('/tmp/x', 'w')")),
    ('a = dict(**b)\nc = {**d}', dict(a='dict(**b)', c='{**d}')),
    ('', {})])
def test_a_text_becomes_settings(text, settings):
    assert read_stored(text) == settings


def test_a_present_config_is_equal_to_its_stored_text():
    cfg = Config(dict(a=1, b=dict(type='B', c=[dict(type='C', size=(1, 2)), dict(d=float('inf'))]),
                      e={'x.y': dict(z=2)}))
    assert read_present(cfg) == read_stored(cfg.pretty_text)
    assert list(differences(read_stored(cfg.pretty_text), read_present(cfg), '')) == []


@pytest.mark.parametrize(('stored', 'present', 'rows'), [
    (dict(a=1, b=2), dict(a=1, b=3), [('b', 2, 3)]),
    (dict(a=dict(b=[dict(p=.5), dict(q=1)])), dict(a=dict(b=[dict(p=.5), dict(q=2)])), [('a.b[1].q', 1, 2)]),
    (dict(a=[1, 2]), dict(a=[1, 3]), [('a', [1, 2], [1, 3])]),
    (dict(a=[dict(t=1)]), dict(a=[dict(t=1), dict(t=2)]), [('a', [dict(t=1)], [dict(t=1), dict(t=2)])]),
    (dict(a=1), dict(b=2), [('a', 1, ABSENT), ('b', ABSENT, 2)]),
    (dict(a=dict(b=1)), dict(a=3), [('a', dict(b=1), 3)])])
def test_innermost_differences(stored, present, rows):
    assert list(differences(stored, present, '')) == rows
