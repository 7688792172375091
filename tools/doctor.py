"""Examine the installation and say how what is wrong is mended."""
import sys
from pathlib import Path

if __name__ == '__main__':
    # The package may not be installed. Its folder does not stay on the path, or metadata in it would deny that.
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    from convnext_mm.apis.cli import main
    sys.path.pop()
    sys.exit(main('doctor'))
