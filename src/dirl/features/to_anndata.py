"""Features as an AnnData file for Scanpy and Squidpy."""

import importlib.util
import io
import json
from dataclasses import asdict

import h5py

from dirl.core.errors import ConfigError
from dirl.features.feature_files import Features, Strings

ANNDATA = "features.h5ad"


def require_anndata() -> None:
    """Refuse to go on if the extra ``anndata`` is not installed."""
    if importlib.util.find_spec("anndata") is None:
        remedy = "pip install 'dirl[anndata]'"
        raise ConfigError("AnnData is not installed", where="--to anndata", remedy=remedy)


def anndata_file(features: Features) -> memoryview:
    """Make the content of ``features.h5ad``, in the order of the store.

    ``X`` are the features. ``obs`` has a row per tile id, with ``slide_id``, ``patient_id`` and ``label``
    (missing if unknown). Its ``x`` and ``y`` are the top-left corner in level-0 pixels, and so is
    ``obsm["spatial"]``. ``uns`` has the ``encoder`` and the ``card`` as JSON.

    Raises
    ------
    ConfigError
        If the extra ``anndata`` is not installed.
    """
    require_anndata()
    import anndata
    import pandas

    def categories(values: Strings) -> pandas.Categorical:
        return pandas.Categorical([value or None for value in values.tolist()])

    tiles = pandas.DataFrame(
        {
            "slide_id": categories(features.slide_ids),
            "patient_id": categories(features.patient_ids),
            "label": categories(features.labels),
            "x": features.coords[:, 0],
            "y": features.coords[:, 1],
        },
        index=pandas.Index(features.tile_ids.astype(object), name="tile_id"),
    )
    card = {name: value for name, value in asdict(features.card).items() if name != "files"}
    table = anndata.AnnData(
        X=features.values,
        obs=tiles,
        obsm={"spatial": features.coords},
        uns={"encoder": features.card.config["encoder"], "card": json.dumps(card)},
    )
    # In memory: the process would crash if the disk became full while HDF5 has the file open.
    data = io.BytesIO()
    with h5py.File(data, "w") as file:
        anndata.io.write_elem(file, "/", table)
    return data.getbuffer()
