"""What of an asset runs: two assets of the same essence are one experiment, whatever their comments and layout."""

import ast
import hashlib
import json

_DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def essence(asset: bytes, name: str) -> bytes:
    """A digest: of Python without comments, layout and docstrings, of JSON whatever its order, of anything else
    without blanks at the ends of lines and empty lines.
    """
    try:
        if name.endswith(".py"):
            said = ast.dump(_undocumented(ast.parse(asset)))
        elif name.endswith(".json"):
            said = json.dumps(json.loads(asset), sort_keys=True)
        else:
            said = _lines(asset)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        said = _lines(asset)  # what can't be read can still be told apart
    return hashlib.sha256(said.encode("utf-8", "surrogatepass")).digest()


def _undocumented(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return tree


def _lines(asset: bytes) -> str:
    lines = (line.rstrip() for line in asset.decode("utf-8", "replace").splitlines())
    return "\n".join(line for line in lines if line)
