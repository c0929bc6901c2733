from cgnl_mm.cli import run
from cgnl_mm.datasets.prepare.ucf101 import main

if __name__ == '__main__':
    run(main)
