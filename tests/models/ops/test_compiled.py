"""Blocks compiled by torch, alone and within a model."""
import pytest
import torch

from convnext_mm import ConvNeXt
from convnext_mm.models.arguments import COMPILE_SINCE
from convnext_mm.models.ops.compiled import compiled_block
from tests.helpers.blocks import images
from tests.helpers.kernels import TORCH
from tests.helpers.models import randomise, relative_difference

needs_compiler = pytest.mark.skipif(TORCH < COMPILE_SINCE, reason=f'compile=True needs torch {COMPILE_SINCE}')
SMALL = dict(depths=(2, 2, 3, 2), channels=(8, 16, 24, 32))


@pytest.fixture
def compilations(monkeypatch, size):
    """The graphs that were compiled; without generating code from them unless the long tests run."""
    graphs, compile = [], torch.compile

    def counting(graph, inputs):
        graphs.append(graph)
        if size(False, True):
            from torch._inductor.compile_fx import compile_fx
            return compile_fx(graph, inputs)
        return graph.forward
    monkeypatch.setattr(torch, 'compile', lambda function, **kwargs: compile(function, backend=counting, **kwargs))
    compiled_block.cache_clear()
    torch._dynamo.reset()
    yield graphs
    compiled_block.cache_clear()
    torch._dynamo.reset()


@needs_compiler
@pytest.mark.long
def test_compiled_once_for_all_sizes(compilations, monkeypatch):
    """Every call of every block runs compiled, with drop path on, whatever the size; a square one comes first."""
    model = randomise(ConvNeXt(SMALL, compile=True, drop_path_rate=.3))
    plain = ConvNeXt(SMALL, drop_path_rate=.3)
    assert plain.load_state_dict(model.state_dict()), 'the same keys'
    calls = []
    monkeypatch.setattr('convnext_mm.models.ops.block.block', lambda *args: calls.append(args))
    draws = torch.Generator().manual_seed(0)
    for step in range(30):
        h, w = torch.randint(64, 300, (2,), generator=draws).tolist() if step else (64, 64)
        sum(f.square().mean() for f in model(torch.rand(2, 3, h, w))).backward()
    assert not calls
    assert 0 < len(compilations) <= 8


@needs_compiler
@pytest.mark.long
@pytest.mark.parametrize('autocast', [None, torch.bfloat16])
def test_compiled_blocks_give_the_same(compilations, autocast):
    own, compiled, exact = (randomise(ConvNeXt(SMALL, compile=compile)) for compile in (False, True, False))
    x, found = images(2, 3, 64, 96), []
    for model in (own, compiled, exact.double()):
        with torch.autocast('cpu', torch.bfloat16, enabled=autocast is not None and model is not exact):
            features = model(x.to(next(model.parameters()).dtype))
        sum(f.square().sum() for f in features).backward()
        found.append([*features, *(p.grad for p in model.parameters())])
    off = [[torch.linalg.vector_norm(a - e).item() / torch.linalg.vector_norm(e).item() for a, e in zip(some, found[2])]
           for some in found[:2]]
    assert max(off[1]) < (2 * max(off[0]) if autocast else 1e-5)
    assert compilations


@needs_compiler
def test_models_can_be_compiled_whole():
    plain = randomise(ConvNeXt(SMALL))
    whole, x = torch.compile(randomise(ConvNeXt(SMALL)), backend='aot_eager', fullgraph=True), images(2, 3, 64, 96)
    for model in (plain, whole):
        sum(f.square().sum() for f in model(x)).backward()
    for (name, a), b in zip(plain.named_parameters(), whole.parameters()):
        assert relative_difference(b.grad, a.grad) < 1e-4, name


@pytest.mark.skipif(TORCH >= COMPILE_SINCE, reason='this torch compiles')
def test_an_old_torch_is_refused_compilation():
    with pytest.raises(ValueError, match='compile must be False before torch 2.6, got True with torch'):
        ConvNeXt(SMALL, compile=True)


@needs_compiler
def test_the_limit_of_recompilations_is_an_error(compilations):
    # pytest's monkeypatch would leave the setting hidden from what is compiled afterwards.
    with torch._dynamo.config.patch(recompile_limit=2):
        model = ConvNeXt(SMALL, compile=True)
        model(torch.rand(1, 3, 64, 64))
        with pytest.raises(Exception, match='fullgraph'):
            model.double()(torch.rand(1, 3, 64, 64).double())
