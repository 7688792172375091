"""Put a ConvNeXt into any mm config."""
import sys

from convnext_mm.apis.cli import main

if __name__ == '__main__':
    sys.exit(main('swap_backbone'))
