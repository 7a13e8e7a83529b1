"""Hashes of the files of a folder."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from memsinks.corpus.files import folder_digests

NAMES = st.sampled_from(["a", "b.txt", "c/a", "c/d/e", ".hidden", "c/.tmp/x"])


@given(st.dictionaries(NAMES, st.binary(max_size=40)))
def test_every_file_that_is_not_hidden_has_its_hash(tmp_path_factory, files):
    folder = tmp_path_factory.mktemp("files")
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    shown = {name: hashlib.sha256(data).hexdigest() for name, data in files.items() if "." not in (name[0], name[2:3])}
    assert folder_digests(folder) == shown
    assert list(folder_digests(folder)) == sorted(shown)


def test_a_hash_that_is_known_is_not_made_again_and_what_is_left_out_is_not_read(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(name.encode())
    found = folder_digests(tmp_path, known={"a": "told", "elsewhere": "told"}, besides={"c"})
    assert found == {"a": "told", "b": hashlib.sha256(b"b").hexdigest()}
