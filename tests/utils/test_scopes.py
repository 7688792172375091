"""The scope of a config becomes that of the process; a config without one leaves it alone, and can be given none."""
import pytest
from mmengine.registry import DefaultScope

from convnext_mm.utils.scopes import default_scope, set_default_scope


def current():
    scope = DefaultScope.get_current_instance()
    return scope and scope.scope_name


@pytest.mark.parametrize(('cfg', 'scope'), [(dict(default_scope='mmdet'), 'mmdet'), (dict(), 'mmengine'),
                                            (dict(default_scope=None), 'before')])
def test_the_scope_of_a_config(cfg, scope):
    with default_scope('before'):
        set_default_scope(cfg)
        assert current() == scope


@pytest.mark.parametrize('scope', ['mmdet', None])
def test_a_scope_for_a_while(scope):
    with default_scope('before'):
        with default_scope(scope):
            assert current() == scope
        assert current() == 'before'
        with pytest.raises(ZeroDivisionError), default_scope(scope):
            raise ZeroDivisionError
        assert current() == 'before'
