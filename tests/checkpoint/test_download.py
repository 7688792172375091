"""Published weights: the table, and fetching into the cache, all from a server on this machine."""
import argparse
import contextlib
import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import time
from importlib import resources
from pathlib import Path

import pytest
import torch

from convnext_mm import ARCHS, ConvNeXt
from convnext_mm.checkpoint import download
from convnext_mm.checkpoint.download import MIRROR, cache_folder, fetch, locate
from convnext_mm.checkpoint.errors import CheckpointError
from convnext_mm.checkpoint.files import read
from convnext_mm.published.archs import ISOTROPIC_ARCHS
from convnext_mm.published.imagenet import published_imagenet
from convnext_mm.published.paper import published
from convnext_mm.published.weights import of_file, weights
from tests.helpers.paths import ROOT


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves a folder as a server for large files does, ranges included; ``server.script`` spoils answers in turn."""

    def do_GET(self):
        self.server.requests.append((self.path, self.headers.get('Range')))
        spoil = self.server.script.pop(0) if self.server.script else None
        time.sleep(.5 if spoil == 'slow' else 0)
        path = Path(self.server.folder, self.path.lstrip('/'))
        if not path.is_file() or spoil == 'refuse':
            self.send_error(416 if spoil else 404)
            return
        data, start = path.read_bytes(), 0
        if self.headers.get('Range') and spoil != 'no ranges':
            start = int(re.fullmatch(r'bytes=(\d+)-', self.headers['Range'])[1])
            if start >= len(data):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        if spoil != 'no length':
            self.send_header('Content-Length', str(len(data) - start))
        self.end_headers()
        body = data[start:]
        self.wfile.write(body[:len(body) // 2] if spoil == 'break' else body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server with one checkpoint under ``/convnext/file.pth``; the cache is empty."""
    folder = tmp_path / 'served'
    (folder / 'convnext').mkdir(parents=True)
    torch.save({'a': torch.arange(1 << 16)}, folder / 'convnext' / 'file.pth')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    monkeypatch.delenv(download.MIRROR, raising=False)
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as served:
        served.folder, served.requests, served.script = folder, [], []
        served.address = f'http://127.0.0.1:{served.server_port}'
        served.file = folder / 'convnext' / 'file.pth'
        thread = threading.Thread(target=served.serve_forever, daemon=True)
        thread.start()
        yield served
        served.shutdown()


def cached(locks=True):
    files = [path for path in cache_folder().rglob('*') if path.is_file()]
    return sorted(path.name for path in files if locks or path.suffix != '.lock')


def test_fetching_once(server, capfd, monkeypatch):
    url = f'{server.address}/convnext/file.pth'
    for _ in range(2):
        path = fetch(url)
        assert path.startswith(os.path.join(os.environ['TORCH_HOME'], 'hub', 'checkpoints', ''))
        assert Path(path).read_bytes() == server.file.read_bytes()
        # A cache that has the file may be read-only.
        monkeypatch.setattr(download, 'FileLock', lambda path: pytest.fail('nothing is to be written'))
    assert len(server.requests) == 1
    assert cached() == ['file.pth']
    assert re.fullmatch(r'525.\d kB of file.pth fetched in 0:00\n', capfd.readouterr().err.splitlines(True)[-1])


@pytest.mark.parametrize(('spoil', 'first', 'last'), [
    (None, '262.1 kB of 525.6 kB of file.pth fetched, 0:00 left', '525.6 kB of file.pth fetched in 0:00'),
    ('break', '262.1 kB of 525.6 kB of file.pth fetched, 0:00 left', '262.8 kB of file.pth fetched'),
    ('no length', '262.1 kB of file.pth fetched', '525.6 kB of file.pth fetched'),
])
def test_progress_in_a_log(server, spoil, first, last, monkeypatch, capfd):
    monkeypatch.setattr(download, '_CHUNK', 1 << 18)
    # Of one size, whatever the version of torch.
    monkeypatch.setattr(download, '_check', lambda *args: None)
    server.file.write_bytes(bytes(525_600))
    server.script = [spoil]
    with pytest.raises(CheckpointError) if spoil == 'break' else contextlib.nullcontext():
        fetch(f'{server.address}/convnext/file.pth')
    assert capfd.readouterr().err.splitlines() == [first, last]


def test_the_cache_is_torchs(server):
    digest = hashlib.sha256(server.file.read_bytes()).hexdigest()[:8]
    server.file.rename(server.file.with_name(f'file-{digest}.pth'))
    torch.hub.load_state_dict_from_url(f'{server.address}/convnext/file-{digest}.pth', progress=False)
    fetch(f'{server.address}/convnext/file-{digest}.pth')
    assert len(server.requests) == 1


def test_files_of_one_name_are_kept_apart(server):
    for folder, value in (('a', 1.), ('b', 2.)):
        (server.folder / folder).mkdir()
        torch.save({'a': torch.tensor(value)}, server.folder / folder / 'model.pth')
    for folder, value in (('a', 1.), ('b', 2.), ('a', 1.)):
        assert read(fetch(f'{server.address}/{folder}/model.pth'))['a'] == value
    assert len(server.requests) == 2


@pytest.mark.parametrize(('url', 'shared'), [
    ('https://dl.fbaipublicfiles.com/convnext/convnext_tiny_1k_224.pth', True),
    ('https://elsewhere.org/convnext_tiny_1k_224.pth', False),
    ('https://download.pytorch.org/models/convnext_tiny-983f1562.pth', True),
    ('https://hub.org/a/resolve/main/model.safetensors?download=true', False),
])
def test_places_in_the_cache(url, shared):
    path = download.cache_path(url)
    assert path.name == re.search(r'[^/?]+(?=\?|$)', url)[0]
    assert (path.parent == cache_folder()) == shared


@pytest.mark.parametrize('url', ['https://hub.org', 'https://hub.org/', 'https://hub.org/..'])
def test_addresses_without_a_file(url):
    with pytest.raises(CheckpointError, match=f'address {url!r} names no file'):
        locate(url)


def test_an_interrupted_download_goes_on(server):
    url = f'{server.address}/convnext/file.pth'
    server.script = ['break', 'break']
    size = server.file.stat().st_size
    for half in (size // 2, size // 2 + (size - size // 2) // 2):
        with pytest.raises(CheckpointError, match=f'broke off after {half} of {size} bytes'):
            fetch(url)
        assert cached(locks=False) == ['file.pth.part']
    assert Path(fetch(url)).read_bytes() == server.file.read_bytes()
    assert [start for _, start in server.requests] == [None, f'bytes={size // 2}-', f'bytes={half}-']
    assert cached() == ['file.pth']


@pytest.mark.parametrize('state', ['no ranges', 'complete', 'too long'])
def test_a_download_starts_over_where_it_must(server, state):
    data, url = server.file.read_bytes(), f'{server.address}/convnext/file.pth'
    part = download.cache_path(url).with_name('file.pth.part')
    part.parent.mkdir(parents=True)
    part.write_bytes({'no ranges': b'x' * 99, 'complete': b'x' * len(data), 'too long': data + b'x'}[state])
    server.script = [state]
    assert Path(fetch(url)).read_bytes() == data


def test_a_server_that_refuses_is_asked_once(server):
    server.script = ['refuse', 'refuse']
    with pytest.raises(CheckpointError, match='answers 416'):
        fetch(f'{server.address}/convnext/file.pth')
    assert len(server.requests) == 1


@pytest.mark.parametrize(('change', 'words'), [
    (lambda data: b'<html>sign in first</html>', 'HTML'),
    (lambda data: data[:-200], 'truncated'),
    (lambda data: data[:9000] + b'x' + data[9001:], 'checksum'),
])
def test_what_is_no_checkpoint_is_not_kept(server, change, words):
    server.file.write_bytes(change(server.file.read_bytes()))
    with pytest.raises(CheckpointError, match=f'thrown away: .*{words}'):
        fetch(f'{server.address}/convnext/file.pth')
    assert cached(locks=False) == []


def test_what_a_file_asks_for_is_told_when_it_is_read(server):
    torch.save({'a': argparse.ArgumentParser}, server.file)
    path = fetch(f'{server.address}/convnext/file.pth')
    with pytest.raises(CheckpointError, match='wants argparse.ArgumentParser'):
        read(path)


@pytest.mark.parametrize('right', [True, False])
@pytest.mark.parametrize('name', ['model-{}.pth', 'cascade_20220509_1105-{}.pth'])
def test_checksums_in_names(server, name, right):
    digest = hashlib.sha256(server.file.read_bytes()).hexdigest()[:8]
    name = name.format(digest if right else '0badc0de')
    server.file.rename(server.file.with_name(name))
    url = f'{server.address}/convnext/{name}'
    if right:
        assert fetch(url)
    else:
        with pytest.raises(CheckpointError, match=f'its SHA-256 is {digest}.*, its name promises 0badc0de'):
            fetch(url)
        assert cached(locks=False) == []


@pytest.mark.parametrize('layout', ['convnext/convnext_tiny_1k_224.pth', 'convnext_tiny_1k_224.pth'])
def test_short_names_from_a_mirror(server, monkeypatch, layout):
    arch = dict(depths=(1, 1, 1, 1), channels=(4, 8, 12, 16))
    state_dict = ConvNeXt(arch).state_dict()
    path = server.folder / 'mirror' / layout
    path.parent.mkdir(parents=True)
    torch.save({'model': state_dict}, path)
    monkeypatch.setenv(download.MIRROR, f'{server.address}/mirror/')
    backbone = ConvNeXt(arch, init_cfg=dict(type='Pretrained', checkpoint='convnext_tiny_in1k'))
    backbone.init_weights()
    assert torch.equal(backbone.stages[3][0].dwconv.weight, state_dict['stages.3.0.dwconv.weight'])
    assert cached() == ['convnext_tiny_1k_224.pth']
    assert server.requests[0][0] == '/mirror/convnext/convnext_tiny_1k_224.pth'


def test_a_folder_as_a_mirror(server, monkeypatch):
    monkeypatch.setenv(download.MIRROR, server.folder.as_uri())
    assert Path(fetch('https://hub.org/convnext/file.pth')).read_bytes() == server.file.read_bytes()


@pytest.mark.parametrize('mirror', ['mirror.local', '/data/mirror', 'http://mirror.local:x', 'http://[mirror'])
def test_wrong_mirrors(server, monkeypatch, mirror):
    monkeypatch.setenv(download.MIRROR, mirror)
    words = f'{re.escape(mirror)}/file.pth cannot be reached .* put it at .*{MIRROR}'
    with pytest.raises(CheckpointError, match=words):
        fetch('https://hub.org/convnext/file.pth')


def test_a_cache_that_cannot_be_written(server, monkeypatch, tmp_path):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'file'))
    with pytest.raises(CheckpointError, match='cannot be kept in the cache.*Not a directory.* fetch http'):
        fetch(f'{server.address}/convnext/file.pth')


def test_one_process_writes_at_a_time(server):
    """Who waits finds the file, or after a failure goes on with what is there; the lock is no part of the file."""
    url = f'{server.address}/convnext/file.pth'
    server.script = ['break', 'slow']
    with pytest.raises(CheckpointError, match='broke off'):
        fetch(url)
    fetched = []
    threads = [threading.Thread(target=lambda: fetched.append(fetch(url))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fetched) == 3
    assert len(set(fetched)) == 1
    assert Path(fetched[0]).read_bytes() == server.file.read_bytes()
    assert [start is None for _, start in server.requests] == [True, False]
    assert cached() == ['file.pth']


def test_a_file_system_without_locks(server, monkeypatch):
    def refuse(path):
        raise NotImplementedError('no flock here')
    monkeypatch.setattr(download, 'FileLock', refuse)
    with pytest.raises(CheckpointError, match='cannot be kept in the cache.*no flock here.* put it at'):
        fetch(f'{server.address}/convnext/file.pth')


def test_a_platform_without_fcntl(server):
    program = ("import sys; sys.modules['fcntl'] = None; from convnext_mm.checkpoint.download import fetch; "
               'print(fetch(sys.argv[1]))')
    result = subprocess.run([sys.executable, '-W', 'ignore', '-c', program, f'{server.address}/convnext/file.pth'],
                            capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert Path(result.stdout.strip()).read_bytes() == server.file.read_bytes()
    assert cached() == ['file.pth']


def test_offline_says_where_the_file_belongs(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setenv(download.MIRROR, 'http://127.0.0.1:9')
    with pytest.raises(CheckpointError) as error:
        locate('convnext_base_in22k')
    for words in ('cannot be reached', weights()['convnext_base_in22k'].url, download.MIRROR,
                  str(tmp_path / 'hub' / 'checkpoints' / 'convnext_base_22k_224.pth')):
        assert words in str(error.value)
    assert cached(locks=False) == []
    (cache_folder() / 'convnext_base_22k_224.pth').write_bytes(b'PK')
    assert locate('convnext_base_in22k') == str(cache_folder() / 'convnext_base_22k_224.pth')


def test_a_missing_file_on_a_server(server):
    with pytest.raises(CheckpointError, match='/none.pth answers 404 Not Found; fetch http://.*/none.pth where'):
        fetch(f'{server.address}/none.pth')


def test_locate(tmp_path, monkeypatch):
    path = tmp_path / 'convnext_tiny_in1k'
    path.touch()
    monkeypatch.chdir(tmp_path)
    assert locate('convnext_tiny_in1k') == 'convnext_tiny_in1k', 'a file comes before a name'
    assert locate(path) == str(path)
    monkeypatch.setenv('HOME', str(tmp_path))
    assert locate('~/convnext_tiny_in1k') == str(path)
    assert locate(path.as_uri()) == str(path)
    for wrong in (None, 3, {'a': 1}):
        with pytest.raises(CheckpointError, match=f'must be a path, an address or a short name .* got {wrong!r}'):
            locate(wrong)
    with pytest.raises(CheckpointError, match="'convnext_tiny_1k' is no file .* did you mean convnext_tiny_in1k"):
        locate('convnext_tiny_1k')


def test_processes_share_one_download(server, tmp_path):
    server.script = ['slow']
    # Each tells that it is ready and waits for the start, so that all ask at once.
    program = ('import sys, time, pathlib; from convnext_mm.checkpoint.download import fetch;'
               'folder = pathlib.Path(sys.argv[2]);'
               '(folder / sys.argv[3]).touch(); exec("while not (folder / \'go\').exists(): time.sleep(.01)");'
               'print(fetch(sys.argv[1]))')
    processes = [subprocess.Popen([sys.executable, '-c', program, f'{server.address}/convnext/file.pth', str(tmp_path),
                                   f'ready{i}'], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for i in range(3)]
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob('ready*'))) < 3 and time.monotonic() < deadline:
        time.sleep(.01)
    (tmp_path / 'go').touch()
    assert len({process.communicate()[0] for process in processes}) == 1
    assert len(server.requests) == 1
    assert cached() == ['file.pth']


@pytest.mark.parametrize(('name', 'url', 'licence'), [
    ('convnext_tiny_in1k', 'convnext_tiny_1k_224.pth', 'MIT'),
    ('convnext_tiny_in1k_ema', 'convnext_tiny_1k_224_ema.pth', 'MIT'),
    ('convnext_base_in22k', 'convnext_base_22k_224.pth', 'MIT'),
    ('convnext_xlarge_in22k_in1k_384_ema', 'convnext_xlarge_22k_1k_384_ema.pth', 'MIT'),
    ('convnextv2_atto_in1k_ema', 'convnextv2/im1k/convnextv2_atto_1k_224_ema.pt', 'CC BY-NC 4.0'),
    ('cascade_mask_rcnn_convnext_tiny_1k_3x', 'coco/cascade_mask_rcnn_convnext_tiny_1k_3x.pth', 'MIT'),
    ('upernet_convnext_tiny_1k_512x512', 'ade20k/upernet_convnext_tiny_1k_512x512.pth', 'MIT'),
])
def test_names(name, url, licence):
    assert weights()[name].url == f'https://dl.fbaipublicfiles.com/convnext/{url}'
    assert weights()[name].licence == licence
    assert of_file(f'/anywhere/{weights()[name].filename}') == weights()[name]


def test_the_table_covers_what_is_published():
    by_url = {row.url: row for row in weights().values()}
    assert len(by_url) == len(weights()), 'an address has one name'
    for row in published()['imagenet'] + [dict(row, resolution=224) for row in published_imagenet()['isotropic']]:
        found = by_url[row['weights']]
        assert (found.arch, found.resolution[0]) == (row['arch'], row['resolution'])
        assert found.accuracy.startswith(f'{row["top1"]} %')
    for row in published()['coco'] + published()['ade20k']:
        # The paper's detectors and segmentors start from the weights themselves, not from their average.
        start = by_url[row['backbone_weights']]
        assert not start.name.endswith('_ema')
        assert start.arch == row['arch']
        assert by_url[row['finetuned_weights']].data == f'configs/{row["config"]}'
    for row in weights().values():
        assert row.arch in {**ARCHS, **ISOTROPIC_ARCHS}
        assert ('_ema' in row.url) == row.name.endswith('_ema')


def test_accuracies_stand_in_one_place():
    rows = json.loads(resources.files('convnext_mm.published').joinpath('weights.json').read_text())['imagenet']
    elsewhere = {row['weights'] for row in published()['imagenet'] + published_imagenet()['isotropic']}
    assert not [name for name, row in rows.items() if 'top1' in row and row['url'] in elsewhere]


def test_every_short_name_of_the_configs_is_known():
    configs = ROOT / 'configs'
    named = re.compile(r"(?:checkpoint=|load_from = )'(\w+)'")
    names = {name for path in configs.glob('*/*.py') for name in named.findall(path.read_text())}
    assert names
    assert names <= weights().keys()
