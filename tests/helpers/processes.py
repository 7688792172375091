"""Run a function in several processes that are connected by gloo."""
import faulthandler
import multiprocessing
import os
import tempfile
import traceback
from pathlib import Path

import torch


def _work(function, rank, count, folder, arguments):
    log = os.open(f'{folder}/{rank}.log', os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    faulthandler.enable()
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count))
    try:
        if count > 1:
            torch.distributed.init_process_group('gloo', f'file://{folder}/meeting', rank=rank, world_size=count)
        torch.save(function(*arguments), f'{folder}/{rank}.result')
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    # Skip the shutdown of the interpreter: the other process might wait for it forever.
    os._exit(0)


def run(function, *arguments, count=2, timeout=600):
    """Call a function of a module in ``count`` connected processes (unconnected: 1); return what each returns."""
    context = multiprocessing.get_context('forkserver')
    # These modules are imported once, where they are installed, and each process is a fork.
    context.set_forkserver_preload(['mmdet.models', 'mmseg.models', 'convnext_mm.apis.train',
                                    'convnext_mm.engine.runner.loops', 'tests.helpers.engines'])
    with tempfile.TemporaryDirectory() as folder:
        processes = [context.Process(target=_work, args=(function, rank, count, folder, arguments))
                     for rank in range(count)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(timeout)
        stuck = [process for process in processes if process.is_alive()]
        for process in stuck:
            process.kill()
        ends = '\n'.join(file.read_text()[-3000:] for file in sorted(Path(folder).glob('*.log')))
        assert not stuck, f'processes wait for each other:\n{ends}'
        codes = [process.exitcode for process in processes]
        assert not any(codes), f'exit codes {codes}:\n{ends}'
        return [torch.load(f'{folder}/{rank}.result', weights_only=False) for rank in range(count)]
