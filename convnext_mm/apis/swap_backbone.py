"""Put a ConvNeXt into a config: read, swap, show, try, write."""
import contextlib
import io
import sys
import warnings

from convnext_mm.apis.config import read_config
from convnext_mm.checkpoint.download import resolve
from convnext_mm.datasets.agreement.channels import check_channels
from convnext_mm.swap.errors import MissingPackageError, NoKernelError, VerificationError
from convnext_mm.swap.swap import swap
from convnext_mm.swap.verify import verify
from convnext_mm.swap.write import check_target, format_changes, format_config, write_config
from convnext_mm.utils.scopes import default_scope


def main(args):
    """Swap a config by a command line.

    Raises:
        UserError: The config cannot be read, swapped or written, or the swapped model does not work.
    """
    if args.pretrained not in ('auto', 'none'):
        resolve(args.pretrained)
    cfg = read_config(args.config)
    if args.out:
        check_target(args.out, cfg)
    result = swap(cfg, args.arch, None if args.pretrained == 'none' else args.pretrained, not args.keep_optimizer,
                  args.output_stride or 'auto')
    _check(result.config)
    print(format_changes(result.changes))
    for warning in result.warnings:
        print(f'warning: {warning}', file=sys.stderr)
    print(f'\n{"not verified (--no-verify)" if args.no_verify else _verify(result.config)}')
    if args.out:
        write_config(result, args.config, args.out, args.full)
        print(f'written: {args.out}')
    else:
        print(f'\n{format_config(result, args.config, args.full)}')


def _check(config):
    """Check what training would refuse; without a split, that is the preprocessor alone: the data may be elsewhere."""
    # Toolboxes print when they are imported.
    with contextlib.redirect_stdout(sys.stderr), default_scope(config.get('default_scope', 'mmengine')):
        check_channels(config, ())


def _verify(config):
    """Try the model, and return the outcome in words."""
    try:
        # They warn about themselves, too.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            seen = verify(config)
    except NoKernelError as error:
        return f'built, but not tried: {error.operator} has no CPU kernel'
    except MissingPackageError as error:
        raise MissingPackageError(error.stage, f'the model cannot be tried here: {error}; install what is missing, or '
                                               'give --no-verify') from error
    except VerificationError as error:
        raise VerificationError(error.stage, f'the swapped model does not work: {error}; nothing is written '
                                             '(--no-verify writes it all the same)') from error
    return (f'verified: built, run forward, loss {seen.loss:.3g}, every one of {seen.parameters:,} backbone parameters '
            f'with a gradient, {seen.seconds:.0f} s')
