from cgnl_mm.cli import run
from cgnl_mm.datasets.prepare.cub import main

if __name__ == '__main__':
    run(main)
