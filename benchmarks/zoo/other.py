"""Try models under the other family of distributions that do not run under this one, by no fault of the swap."""
import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.zoo.log import versions
from benchmarks.zoo.survey import verify_tasks
from convnext_mm.utils.config_files import config_folder
from convnext_mm.utils.errors import UserError

#: Statuses that another family may change.
OPEN = ('package', 'upstream')


def verify_elsewhere(rows, python, log_path, workers):
    """Try the open rows of a survey with another interpreter, on the same configs.

    Args:
        rows (list[dict]): From :func:`benchmarks.zoo.survey.survey`.
        python (str): Interpreter of an environment with the other family's mmdet and mmseg.
        log_path (str | Path): File of the results there.
        workers (int): Processes.

    Returns:
        list[dict]: The rows. Those whose model is verified there have the status ``verified``, and ``under`` with the
        versions of the distributions there.

    Raises:
        UserError: The interpreter cannot be run, or fails.
    """
    tasks = {row['model']: (row['config'], row['model']) for row in rows if row['status'] in OPEN}
    if not tasks:
        return rows
    packages = {config.partition('/')[0] for config, _ in tasks.values()}
    job = dict(folders={package: str(config_folder(package)) for package in packages}, tasks=[*tasks.values()],
               log=str(log_path), workers=workers)
    environment = {**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2])}
    try:
        done = subprocess.run([python, '-m', 'benchmarks.zoo.other'], input=json.dumps(job), text=True,
                              stdout=subprocess.PIPE, env=environment)
    except OSError as error:
        raise UserError(f'--other {python!r} cannot be run: {error}') from error
    if done.returncode:
        raise UserError(f'--other {python!r} ended with exit code {done.returncode}; what it said stands above')
    found = json.loads(done.stdout.splitlines()[-1])
    return [dict(row, status='verified', under=found['versions'])
            if row['status'] in OPEN and found['statuses'][row['model']] == 'verified' else row for row in rows]


def main():
    """Read a job from the standard input, do it, and print the results as the last line of the standard output."""
    job = json.load(sys.stdin)
    # The configs of one family are read under the other: a path takes the place of a name.
    tasks = [(package, str(Path(job['folders'][package], name)), model)
             for package, _, name, model in ((*config.partition('/'), model) for config, model in job['tasks'])]
    results = verify_tasks(tasks, job['log'], job['workers'])
    print(json.dumps(dict(versions=versions(), statuses={row['model']: row['status'] for row in results})))


if __name__ == '__main__':
    main()
