"""Write a page about trainings, finished or not."""
import sys

from convnext_mm.apis.cli import main

if __name__ == '__main__':
    sys.exit(main('report'))
