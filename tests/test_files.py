"""Files are read and written by `bench.files` alone: writes follow no link, and small files cannot fill the memory."""

from __future__ import annotations

import ast

import pytest
from conftest import ROOT

METHODS = {  # of paths and of archives, by name
    *("open", "read_text", "read_bytes", "write_text", "write_bytes", "touch", "mkdir"),
    *("symlink_to", "hardlink_to", "link_to", "extract", "extractall", "tofile", "rename", "replace"),
}
FUNCTIONS = {  # that take a path, or parse what somebody else may have written
    *("open", "io.open", "os.open", "os.fdopen", "os.replace", "os.rename", "os.mkdir", "os.makedirs", "os.link"),
    *("os.symlink", "shutil.copy", "shutil.copy2", "shutil.copyfile", "shutil.copytree", "shutil.move"),
    *("json.load", "json.loads", "tomllib.load", "tomllib.loads", "tempfile.mkstemp", "tempfile.NamedTemporaryFile"),
    *("np.fromfile", "np.loadtxt", "np.genfromtxt", "np.memmap", "sqlite3.connect", "msgpack.unpackb", "load_file"),
    *("parquet.read_metadata", "pq.read_metadata", "pq.read_schema", "pq.read_table", "pd.read_parquet"),
}
OF_FILES = {  # that take a path or an open file: allowed with a file that `writing` or `open_file` has opened
    *("savefig", "to_csv", "to_parquet", "to_html", "to_excel", "to_pickle", "write_table"),
    *("np.save", "np.savez", "np.savez_compressed", "np.savetxt", "np.load", "torch.save", "torch.load", "save_file"),
    *("pd.read_csv", "pd.read_json", "zipfile.ZipFile", "ZipFile", "tarfile.open", "Image.open", "json.dump"),
}
OPENERS = {"writing", "open_file", "archive.open"}
OWN, MEASURED = "a file of this project or of the system", "`refuse_large_table` has measured the table"
IDENTITY = "its code is part of the identity of cells; `bench.sweep.plan` refuses deep nesting"
SAFE = "safetensors compares its header with the size of the file"
EXCEPTIONS = {  # module -> call -> why it needs no helper
    "bench/cli/results.py": {"json.loads": "text that pandas has just made"},
    "bench/data/files.py": {"pq.read_schema": MEASURED, "pq.read_table": MEASURED},
    "bench/data/rebuild.py": {"zipfile.ZipFile": "its files are compared with checksums"},
    "bench/data/sets.py": {"open": OWN, "pd.read_csv": OWN},
    "bench/engine/devices.py": {"read_text": OWN},
    "bench/executors/files.py": dict.fromkeys(("mkdir", "np.fromfile", "rename", "tofile"), "in a private folder"),
    "bench/gpu/archive.py": {"extractall": "its filter refuses links and paths out of the folder"},
    "bench/records.py": {"json.loads": "of a cell whose key was computed from the same text, or text made here"},
    "bench/report/page.py": {"read_text": OWN},
    "bench/store/database.py": {
        **dict.fromkeys(("open", "sqlite3.connect"), "SQLite opens its files without following links"),
        "read_text": OWN,
        "shutil.copyfile": "into a private folder",
    },
    "bench/store/repair.py": dict.fromkeys(("replace", "sqlite3.connect"), "it renames SQLite's own files"),
    "bench/store/run.py": {"pd.read_parquet": MEASURED},
    "bench/store/votes.py": {"json.loads": "of texts whose signs are checked, with a hook that counts numbers"},
    "bench/verify/bundle.py": {"open": "a file in an archive", "zipfile.ZipFile": "what it unpacks is counted"},
    "classifiers/hashing.py": {"open": IDENTITY},
    "classifiers/image_models.py": {"json.loads": IDENTITY, "read_text": IDENTITY},
    "classifiers/nets/files.py": {"load_file": SAFE},
    "classifiers/nets/resnet.py": {"load_file": SAFE},
    "purifiers/nets/checkpoints/flax_file.py": {"msgpack.unpackb": "its limits are the length of the content"},
    "purifiers/nets/checkpoints/tensor_file.py": {
        "ZipFile": "it reads the table of contents",
        "load_file": SAFE,
    },
    "purifiers/nets/hub/download.py": {"rename": "a whole download, in the user's own cache"},
    "purifiers/nets/hub/files.py": {"load_file": SAFE},
}


def calls(code: str) -> list[str]:
    """Calls that read or write files by other means than `bench.files`."""
    tree = ast.parse(code)
    opened = {
        item.optional_vars.id
        for node in ast.walk(tree)
        if isinstance(node, ast.With)
        for item in node.items
        if isinstance(item.context_expr, ast.Call) and ast.unparse(item.context_expr.func) in OPENERS
        if isinstance(item.optional_vars, ast.Name)
    }
    return [name for node in ast.walk(tree) if isinstance(node, ast.Call) if (name := _offence(node, opened))]


def _offence(call: ast.Call, opened: set[str]) -> str:
    name, arguments = ast.unparse(call.func), [ast.unparse(argument) for argument in call.args]
    last = name.rpartition(".")[2]
    is_method = isinstance(call.func, ast.Attribute)
    if is_method and last in ("rename", "replace") and (len(arguments) != 1 or call.keywords):
        return ""  # of texts, tables, records and dates
    if name in FUNCTIONS:
        own = arguments and arguments[0].startswith(("json.dumps(", "to_json("))
        return "" if own and name == "json.loads" else name
    if name in OF_FILES or (is_method and last in OF_FILES):
        fine = not arguments or any(a in opened or a.startswith(("io.BytesIO(", "io.StringIO(")) for a in arguments)
        return "" if fine and "path" not in {k.arg for k in call.keywords} else name
    return last if is_method and last in METHODS else ""


PACKAGES = ("bench", "purifiers", "classifiers")
PRODUCT = [ROOT / "purifybench.py", *(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))]


@pytest.mark.parametrize("path", sorted(PRODUCT), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_module_reads_and_writes_files_by_the_helper_alone(path):
    module = path.relative_to(ROOT).as_posix()
    if module != "bench/files.py":
        assert set(calls(path.read_text())) == set(EXCEPTIONS.get(module, ()))
