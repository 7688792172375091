"""Check the data sets of a config, say what is wrong, and write cleaned annotation files."""
import argparse
import contextlib
import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from convnext_mm.apis.config import parse_options, read_config
from convnext_mm.datasets.agreement.evaluated import evaluators_of
from convnext_mm.datasets.census import table_rows, tell, tell_nothing
from convnext_mm.datasets.class_folders import ClassFolders, count_rows
from convnext_mm.datasets.fix import fix_coco, sound_names
from convnext_mm.datasets.scan import SPLITS, Scan, scan_config
from convnext_mm.utils.files import check_place, whole_file
from convnext_mm.utils.text import format_table


def main(args: argparse.Namespace) -> int:
    """Check by a command line (see `tools/check_data.py`); return the exit code, 1 where something was found."""
    return check(read_config(args.config, parse_options(args.cfg_options)), args.fix)


def check(cfg: Any, fix: str | None = None) -> int:
    """Scan the data sets of a config, print what is wrong and what is used, and write cleaned files if asked.

    Args:
        cfg (mmengine.Config): See ``scan.scan_config``.
        fix (str, optional): File for the annotations without what is wrong: COCO's JSON, or the names of the sound
            images of a segmentation data set, to be given as its ``ann_file``. With several data sets to be cleaned,
            the split's name is added to each. Defaults to none.

    Returns:
        int: 1 if something was found or too little is used, else 0.

    Raises:
        UserError: See ``scan.scan_config``; and where ``fix`` cannot be written.
    """
    if fix:
        check_place('--fix', fix)
    # Some packages greet on stdout when they are imported.
    with contextlib.redirect_stdout(sys.stderr):
        scans, others = scan_config(cfg)
    for scan in scans:
        for finding in scan.findings:
            print(f'{finding.file}: {finding.flaw.kind}: {finding.flaw.detail}')
    told = _tell([(scan.keys[0], scan.census) for scan in scans if scan.census])
    for line in told:
        print(line)
    _print_unread(scans, others)
    rows = [(', '.join(scan.keys), scan.images, *_count(scan)) for scan in scans]
    if rows:
        print(format_table(('data set', 'images', 'wrong', 'what'), rows))
        print(format_table(('data set', 'what is used', 'number'), _used(scans), left=2))
    wrong = [scan for scan in scans if scan.findings]
    if fix:
        _fix(cfg, wrong, Path(fix))
    return 1 if wrong or told else 0


def _used(scans):
    """Return rows of (data set, what, number) for the table of what is used."""
    rows = table_rows([(', '.join(scan.keys), scan.census) for scan in scans if scan.census])
    for scan in scans:
        if isinstance(scan.content, ClassFolders):
            names = [', '.join(scan.keys)]
            rows += [(names.pop() if names else '', *row) for row in count_rows(scan.content)]
    return rows


def _print_unread(scans, others):
    """Say of which data sets not every file was looked at."""
    for key, kind in others:
        print(f'{key} is not looked at: it is of type {kind}, which hands out neither instances nor index masks')
    for scan in scans:
        if scan.census and scan.content is None:
            print(f'{", ".join(scan.keys)}: counted as {type(scan.dataset).__name__} builds it; the images are not '
                  'looked at')


def _tell(censuses):
    """Return in words what a user should know of what the data sets hand out."""
    told = []
    for split in SPLITS:
        of_split = [(key, census) for key, census in censuses if key.startswith(split)]
        nothing = {key: tell_nothing(census, key) for key, census in of_split}
        told += filter(None, nothing.values())
        told += tell([(key, census) for key, census in of_split if not nothing[key]])
    return told


def _count(scan):
    """Return how many findings there are, and how many of each kind in words."""
    kinds = Counter(finding.flaw.kind for finding in scan.findings)
    return len(scan.findings), ', '.join(f'{count} {kind}' for kind, count in kinds.most_common()) or '-'


def _label(key):
    """Return ``train`` for ``train_dataloader.dataset``, ``train_1`` for ``train_dataloader.dataset.datasets.1``."""
    return '_'.join([key.split('_')[0], *re.findall(r'\d+', key)])


def _fix(cfg, scans, path):
    """Write the cleaned annotation files of the data sets in which something is wrong."""
    if not scans:
        print(f'nothing is wrong, so {path} is not written')
    for scan in scans:
        if isinstance(scan.content, ClassFolders):
            print(f'{scan.content.root} has no annotation file to clean: mend or delete the files that are named above')
            continue
        target = path if len(scans) == 1 else path.with_stem(f'{path.stem}_{_label(scan.keys[0])}')
        if scan.content is None:
            print(f'{scan.dataset.ann_file or scan.keys[0]} cannot be cleaned: it cannot be read')
            continue
        text, done = _clean(scan)
        if any(finding.flaw.kind == 'other encoding' for finding in scan.findings):
            done = '; '.join(filter(None, [done, 'written in UTF-8']))
        with whole_file(target) as temporary:
            temporary.write_text(text, encoding='utf-8')
        keys = [*(f'{key}.ann_file' for key in scan.keys), *evaluators_of(cfg, scan.dataset.ann_file)]
        settings = ' '.join(f'{key}={target.absolute()}' for key in keys)
        print(f'{target}: {done or "nothing that is wrong can be dropped"}\nuse it by --cfg-options {settings}')


def _clean(scan: Scan) -> tuple[str, str]:
    """Return the text of a data set's cleaned annotation file, and in words what was done."""
    if isinstance(scan.content, dict):
        content, done = fix_coco(scan.content, scan.findings)
        return json.dumps(content), '; '.join('{} {} ({})'.format(count, *what) for what, count in done.items())
    names = sound_names(scan.dataset, scan.content, scan.findings)
    return ''.join(f'{name}\n' for name in names), f'{len(scan.content) - len(names)} images dropped'
