"""A resumed run counts on where mmengine's EarlyStoppingHook counted, and keeps the identity of the run."""
import pytest
from mmengine.config import Config
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.runner import Runner

from convnext_mm.engine.hooks.run_state import KEY, RUN
from convnext_mm.engine.resume import find_checkpoint
from convnext_mm.engine.run_status import begin_status
from convnext_mm.engine.settings import use_whole_checkpoints
from tests.helpers.toy import ToyData, ToyModel, build_runner


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    # To ask a compiler and others for their versions takes longer than a run.
    monkeypatch.setattr(Runner, '_log_env', lambda *_: None)


class Killed(BaseException):
    pass


class Dying(ToyModel):
    """Ends the run in a step, as a kill would."""

    at = None

    def forward(self, *args, mode='tensor', **kwargs):
        if self.calls == self.at and mode == 'loss':
            raise Killed
        return super().forward(*args, mode=mode, **kwargs)


class Scores(BaseMetric):
    """Gives a score for each iteration."""

    def __init__(self, scores):
        super().__init__()
        self.scores, self.runner = scores, None

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return dict(score=self.scores[self.runner.iter // 2 - 1])


def train(folder, scores, at=None, by_epoch=False, **stopping):
    """Validate after every second iteration, an epoch of the toy; return the runner."""
    cfg = Config(dict(custom_hooks=[dict(type='EarlyStoppingHook', monitor='score', rule='greater', **stopping)]))
    use_whole_checkpoints(cfg)
    metric, found = Scores(scores), find_checkpoint(folder)
    length = dict(max_epochs=8) if by_epoch else dict(max_iters=16, val_interval=2)
    runner = build_runner(
        folder, length, cfg.custom_hooks, model=lambda: setattr(model := Dying(), 'at', at) or model, by_epoch=by_epoch,
        batch_size=5, val_cfg=dict(type='ValLoop'), val_evaluator=Evaluator(metric),
        val_dataloader=dict(dataset=ToyData(), batch_size=10, sampler=dict(type='DefaultSampler', shuffle=False)),
        checkpoint=dict(interval=2, save_best='score', rule='greater'),
        **(dict(resume=True, load_from=found[0]) if found else {}))
    metric.runner = runner
    begin_status(folder)
    runner.train()
    return runner


# The scores of all validations, the iteration after which the run is killed, and where it stops.
CASES = [
    ([.1, .5, .4, .3, .2, .9, .9, .9], 3, 8, dict(patience=2, min_delta=.01)),
    ([.1, .5, .4, .3, .2, .9, .9, .9], 6, 8, dict(patience=2, min_delta=.01)),
    ([.1, .5, .4, .3, .2, .9, .9, .9], 7, 8, dict(patience=2, min_delta=.01)),
    # Each is the best, but by less than what counts: each is written after its validation.
    ([.1, .11, .12, .13, .14, .15, .16, .17], 5, 6, dict(patience=2, min_delta=.1)),
    ([.1, .11, .12, .9, .91, .92, .93, .94], 7, 14, dict(patience=3, min_delta=.1)),
    ([.1, .2, .3, .4, .8, .1, .1, .1], 8, 10, dict(patience=5, stopping_threshold=.7, min_delta=.01)),
]


@pytest.mark.parametrize('by_epoch', [True, False])
@pytest.mark.parametrize(('scores', 'at', 'end', 'stopping'), CASES)
def test_a_killed_run_stops_where_the_whole_one_does(tmp_path, scores, at, end, stopping, by_epoch):
    whole = train(tmp_path / 'whole', scores, by_epoch=by_epoch, **stopping)
    assert whole.iter == end
    if at >= end:
        at = end - 1
    with pytest.raises(Killed):
        train(tmp_path / 'killed', scores, at, by_epoch, **stopping)
    identity = find_checkpoint(tmp_path / 'killed')[1]['message_hub']['runtime_info'][RUN]
    resumed = train(tmp_path / 'killed', scores, by_epoch=by_epoch, **stopping)
    assert resumed.iter == end
    assert resumed.message_hub.get_info(RUN) == identity != whole.message_hub.get_info(RUN)


@pytest.mark.parametrize(('patience', 'end'), [(2, 6), (9, 16)])
def test_a_stopped_run_goes_on_with_more_patience_alone(tmp_path, patience, end):
    scores = [.1, .11, .12, .13, .14, .15, .16, .17]
    assert train(tmp_path, scores, patience=2, min_delta=.1).iter == 6
    assert find_checkpoint(tmp_path)[1][KEY] == [dict(wait_count=2, best_score=.1)]
    assert train(tmp_path, scores, patience=patience, min_delta=.1).iter == end
