"""Stands in for the build backend that the pinned source package names. `pip download` asks a backend what the package is
called before it keeps the file; the real one wants CMake for the answer. Nothing can be built with this one."""
import pathlib
import re


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    info = pathlib.Path("PKG-INFO").read_text()
    name, version = (re.search(rf"^{key}: (\S+)$", info, re.M).group(1) for key in ("Name", "Version"))
    folder = pathlib.Path(metadata_directory) / f"{name}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return folder.name
