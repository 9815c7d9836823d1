"""How the files of an export say whose they are. A new layout is one file here, and its class in LAYOUTS."""

from include.faceset.declared.layouts.flat import FlatExport
from include.faceset.declared.layouts.image_folder import ImageFolderExport

LAYOUTS = (FlatExport, ImageFolderExport)
"""Each is a model (of `Export`) with a `layout` of its own, the `depth` of its folders, and `identities`."""
