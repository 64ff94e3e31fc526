"""Files are read and written by `bench.files` alone: writes follow no link, and small files cannot fill the memory."""

from __future__ import annotations

import ast
import io
import os
import stat
import zipfile
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from bench import files
from bench.errors import InputError

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
    "bench/executors/waiting.py": {"read_text": "the kernel's account of threads"},
    "bench/executors/files.py": dict.fromkeys(("mkdir", "np.fromfile", "rename", "tofile"), "in a private folder"),
    "bench/gpu/archive.py": {"extractall": "its filter refuses links and paths out of the folder"},
    "bench/executors/streams.py": dict.fromkeys(("os.fdopen", "os.open"), "of the null device, for closed streams"),
    "bench/gpu/runs.py": {"sqlite3.connect": OWN},
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


@pytest.mark.parametrize(
    "code",
    [
        "open(path, 'w')",
        "path.write_text('x')",
        "path.read_bytes()",
        "path.mkdir()",
        "draft.replace(path)",
        "table.to_csv(path)",
        "figure.savefig(path)",
        "np.savez(path, a=a)",
        "torch.save(state, path)",
        "torch.load(path)",
        "json.loads(path.text)",
        "pd.read_csv(path)",
        "with open_file(path) as file:\n    np.load(other)",
        "zipfile.ZipFile(path, 'w')",
    ],
)
def test_the_walk_finds_other_means(code):
    assert calls(code)


@pytest.mark.parametrize(
    "code",
    [
        "with writing(path) as file:\n    np.savez(file, a=a)",
        "with open_file(path) as file:\n    pd.read_csv(file)",
        "text.replace('a', 'b')",
        "replace(record, a=1)",
        "table.rename(columns=names)",
        "write_file(path, table.to_csv(index=False))",
        "np.load(io.BytesIO(data))",
    ],
)
def test_the_walk_lets_the_helper_pass(code):
    assert calls(code) == []


def test_a_write_replaces_a_link_and_not_its_target(tmp_path):
    target, path = tmp_path / "mine", tmp_path / "theirs"
    target.write_text("precious")
    path.symlink_to(target)
    files.write_file(path, "new")
    assert target.read_text() == "precious" and path.read_text() == "new" and not path.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(target.stat().st_mode)


def test_a_write_uses_another_name_every_time_and_leaves_nothing_after_a_failure(tmp_path):
    names = set()
    for _ in range(5):
        with suppress(KeyError), files.writing(tmp_path / "file"):
            names.update(path.name for path in tmp_path.iterdir())
            raise KeyError
    assert len(names) == 5 and not list(tmp_path.iterdir())


def test_a_name_that_is_taken_is_not_written(tmp_path, monkeypatch):
    target = tmp_path / "mine"
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: "guessed")
    (tmp_path / ".guessed.part").symlink_to(target)
    with pytest.raises(FileExistsError):
        files.write_file(tmp_path / "file", "new")
    assert not target.exists() and (tmp_path / ".guessed.part").is_symlink()


def test_folders_that_the_project_names_are_no_links(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "tables").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="tables is a link"):
        files.make_subfolder(tmp_path, "tables", "deeper")
    assert not list((tmp_path / "elsewhere").iterdir())
    assert files.make_folder(tmp_path / "tables").is_dir()  # which a user named


def test_a_partial_download_is_no_link(tmp_path):
    (tmp_path / "part").symlink_to(tmp_path / "mine")
    for begun in (True, False):
        with pytest.raises(OSError, match="part"):
            files.continuing(tmp_path / "part", begun)
    for begun, text in ((False, b"a"), (True, b"b")):
        with files.continuing(tmp_path / "file", begun) as file:
            file.write(text)
    assert (tmp_path / "file").read_bytes() == b"ab"


def test_pipes_and_large_files_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="no regular file"):
        files.open_file(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"12345")
    with pytest.raises(InputError, match="5 bytes, and 4 at most"):
        files.open_file(tmp_path / "large", 4)
    assert files.read_bytes(tmp_path / "large", 5) == b"12345"


@pytest.mark.parametrize(
    ("read", "text"), [(files.read_json, "["), (files.read_toml, "a = ["), (files.read_json, '{"a":')]
)
def test_deep_nesting_is_refused(tmp_path, read, text):
    path = tmp_path / "deep"
    path.write_text(text + "[" * 100_000)
    with pytest.raises(InputError, match="nested too deeply"):
        read(path)


def test_json_that_is_no_object_is_refused(tmp_path):
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(InputError, match="it holds list, not an object"):
        files.read_json(tmp_path / "list.json")


def test_arrays_are_read_only_if_their_headers_fit(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.zeros(1000), b=np.array("text"))
    found = files.read_arrays(path)
    assert found["a"].shape == (1000,) and str(found["b"]) == "text"
    with pytest.raises(InputError, match="bytes, and 4,000 at most"):
        files.read_arrays(path, 4000)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 40,)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", header.getvalue() + b"x")
    with pytest.raises(InputError, match="shorter than its header says"):
        files.read_arrays(path)
    np.savez(path, a=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="Python objects") as refused:
        files.read_arrays(path)
    assert "allow_pickle" not in str(refused.value)


def test_a_table_that_does_not_fit_into_memory_is_refused_by_its_header(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    pd.DataFrame({"votes": [[0] * 1000] * 1000}).to_parquet(path)
    files.refuse_large_table(path)
    monkeypatch.setattr(files, "machine_memory", lambda: 16_000_000)
    assert path.stat().st_size < 100_000
    with pytest.raises(InputError, match=r"reading it takes 0\.0 GiB of memory, more than half"):
        files.refuse_large_table(path)


@pytest.mark.parametrize(
    "advice",
    [
        "Object arrays cannot be loaded when allow_pickle=False",
        "Weights only load failed. Re-run with `weights_only=False`, but only if you trust the source",
        "Loading it runs code of the repository. Set the option `trust_remote_code=True` to remove this error.",
    ],
)
def test_no_error_hands_on_advice_to_run_code(advice):
    told = files.first_line(ValueError(f"{advice}\nmore"))
    assert "advice that could run code is left out" in told
    assert not any(word in told for word in ("allow_pickle", "weights_only", "trust_remote_code", "more"))
    assert files.first_line(ValueError("no such key: a (b)")) == "no such key: a (b)"
