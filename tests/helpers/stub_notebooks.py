"""Executed notebooks made by hand: a formula, and outputs of one cell."""

import base64

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

PNG = base64.b64encode(
    base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="
    )
).decode()


def figure():
    return new_output("display_data", data={"image/png": PNG})


def executed(path, *outputs, title="Stub"):
    told = {"mystnb": {"image": {"alt": "a stub"}}}
    code = new_code_cell("1", outputs=list(outputs), metadata=told)
    cells = [new_markdown_cell(f"# {title}\n\n$H_i$"), code]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=cells, metadata={"language_info": {"name": "python"}}), path)
    return path
