"""An option without its value says in one line what it takes."""
import pytest

from convnext_mm.apis.arguments import make_parser


@pytest.mark.parametrize(('command', 'arguments', 'message'), [
    ('check_data', ['c.py', '--fix'], 'argument --fix: expected one argument, OUT: file to write: the annotations '
                                      'without what is wrong, such as clean.json (--help shows the usage)'),
    ('get_flops', ['c.py', '--shape', '3'], 'argument --shape: expected 2 arguments, H W: image size in pixels'),
    ('train', ['c.py', '--cfg-options'], 'expected at least one argument, KEY=VALUE: override settings of the config'),
    ('predict', ['c.py', 'c', 'i', '--device'], 'expected one argument, DEVICE: cpu, cuda:0 and so on'),
    ('show_layer_decay', ['c.py', '--out'], 'FILE: the picture, a PNG (layer_decay.png)')])
def test_an_option_without_its_value(command, arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        make_parser(command).parse_args(arguments)
    said = capsys.readouterr().err
    assert ended.value.code == 2 and message in said and len(said.splitlines()) == 1
