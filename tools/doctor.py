"""Examine the installation and say how what is wrong is mended: tools/doctor.py"""
import argparse
import importlib.util
import sys
from pathlib import Path


def main():
    argparse.ArgumentParser(description=__doc__).parse_args()
    # By its file: the package itself asks for torch and mmengine, which may be what is missing.
    file = Path(__file__).resolve().parents[1] / 'convnext_mm' / 'apis' / 'doctor.py'
    spec = importlib.util.spec_from_file_location('doctor', file)
    doctor = importlib.util.module_from_spec(spec)
    sys.modules['doctor'] = doctor
    spec.loader.exec_module(doctor)
    return doctor.main()


if __name__ == '__main__':
    sys.exit(main())
