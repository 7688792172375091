"""Average the weights of a training, and validate the average and the weights alike."""
from mmengine.hooks import EMAHook as MMEngineEMAHook

from convnext_mm.registry import HOOKS

#: What the names of the metrics of the weights, which are not averaged, end in.
PLAIN = '_plain'


@HOOKS.register_module()
class EMAHook(MMEngineEMAHook):
    """mmengine's moving average of the weights, which also validates the weights themselves.

    Metrics of the average keep their names, those of the weights end in ``_plain``, so that ``CheckpointHook`` can keep
    the best of both: ``save_best=['accuracy/top1', 'accuracy/top1_plain']``. Every checkpoint holds both, the average
    under ``state_dict`` and the weights under ``ema_state_dict``, as mmengine has it. The average follows at every
    iteration, which in this project's loops is an optimizer step, however many batches it accumulates.

    Args:
        args, kwargs: Those of mmengine's hook; ``momentum`` is 1 - the decay.

    Source: `facebookresearch/ConvNeXt` ``main.py``. mmpretrain's hook validates both, too, but does not tell
    ``CheckpointHook``.
    """

    def after_val_epoch(self, runner, metrics=None):
        """Put the weights back, validate them, and add their metrics to those of the average."""
        super().after_val_epoch(runner, metrics)
        loop = runner.val_loop
        runner.model.eval()
        for number, batch in enumerate(loop.dataloader):
            loop.run_iter(number, batch)
        for name, value in loop.evaluator.evaluate(len(loop.dataloader.dataset)).items():
            runner.message_hub.update_scalar(f'val/{name}{PLAIN}', value)
            if metrics is not None:
                metrics[f'{name}{PLAIN}'] = value
