"""Tell what was run: the config, the protocol, and where the weights come from."""
from pathlib import Path

from convnext_mm.checkpoint.files import read
from convnext_mm.published.weights import of_file
from convnext_mm.utils.files import sha256


def describe_run(config: str | Path, source: str, path: str | Path, multi_scale: bool,
                 exported: bool = False, precision: str = 'float32') -> dict:
    """Return what is run, ready for JSON: the config, the protocol, and where the weights come from.

    Args:
        config (str | Path): The config's path as given.
        source (str): The checkpoint as given: a path, an address or a short name.
        path (str | Path): The checkpoint's file.
        multi_scale (bool): Whether with test-time augmentation.
        exported (bool): Whether the file is another runtime's. Defaults to False.
        precision (str): What the network computes in; named unless it is ``float32``, the default.
    """
    known, meta = of_file(path), None if exported else read(path).get('meta')
    weights = dict(source=source)
    if known:
        weights['published_as'] = known.name
    # Checkpoints that mmengine wrote have this record, official ones do not.
    meta = meta if isinstance(meta, dict) else {}
    weights.update((key, meta[key]) for key in ('epoch', 'iter', 'time') if isinstance(meta.get(key), (int, str)))
    weights['sha256'] = sha256(path)
    run = dict(config=str(config), protocol='multi-scale' if multi_scale else 'single-scale', weights=weights)
    return run if precision == 'float32' else dict(run, precision=precision)


def describe_weights(weights: dict | None) -> str:
    """Return in words where weights come from; ``weights`` are those of :func:`describe_run`, or part of them."""
    if not isinstance(weights, dict) or 'source' not in weights:
        return 'not stored with the predictions'
    facts = [f'published as {weights["published_as"]}'] if 'published_as' in weights else []
    facts += [f'{name} {weights[key]}' for key, name in (('epoch', 'epoch'), ('iter', 'iteration'), ('time', 'saved'))
              if weights.get(key)]
    facts += [f'sha256 {weights["sha256"][:12]}'] if 'sha256' in weights else []
    return weights['source'] + (f' ({", ".join(facts)})' if facts else '')
