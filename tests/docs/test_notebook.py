"""Run the notebook as Jupyter does."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / 'demo'
FILE = FOLDER / 'cgnl_in_15_minutes.ipynb'


def test_notebook_holds_no_output():
    cells = nbformat.read(FILE, as_version=4).cells
    assert not any(cell.get('outputs') for cell in cells)


@pytest.mark.nightly
@pytest.mark.starts('Jupyter starts its kernel')
def test_notebook_runs_and_learns():
    notebook = nbformat.read(FILE, as_version=4)
    place = dict(metadata=dict(path=FOLDER))
    NotebookClient(notebook, timeout=600, resources=place).execute()
    outputs = [x for cell in notebook.cells for x in cell.get('outputs', ())]
    texts = ''.join(output.get('text', '') for output in outputs)
    assert float(texts.split('epoch 4: ')[1].split('%')[0]) > 80
    assert "['layer3.cgnl_1']" in texts.splitlines()[-1]
    assert any('image/png' in output.get('data', ()) for output in outputs)
