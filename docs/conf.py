"""Configuration of Sphinx."""

import os

os.environ.setdefault("MPLBACKEND", "agg")

from sphinx.domains.python import PyXRefRole

import fute_sklearn

project = "fute_sklearn"
author = "The fute_sklearn developers"
copyright = "2026, the fute_sklearn developers"
version = release = fute_sklearn.__version__

extensions = [
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "auto_examples/*.ipynb"]
html_theme = "pydata_sphinx_theme"
html_show_sourcelink = False
html_title = project
toc_object_entries_show_parents = "hide"
html_theme_options = {
    "header_links_before_dropdown": 4,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_static_path = ["static"]
html_css_files = ["narrow.css"]
# Pages that have no neighbours to show beside them.
html_sidebars = {
    page: []
    for page in (
        "index",
        "installation",
        "getting_started",
        "how_to",
        "troubleshooting",
        "comparison",
        "benchmarks",
        "paper",
        "extending",
        "glossary",
        "changelog",
        "citing",
    )
}
# Prompts and outputs are not copied.
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True
autosummary_generate = True
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
templates_path = ["templates"]
default_role = "public"
if not tags.has("offline"):  # noqa: F821 - given by Sphinx
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "joblib": ("https://joblib.readthedocs.io/en/stable", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
        "transformers": ("https://huggingface.co/docs/transformers/main/en", None),
    }
PUBLIC = ("fute_sklearn", "fute_sklearn.exceptions", "fute_sklearn.base")


def resolve_public(app, env, node, contnode):
    """Find public objects that docstrings of other modules name without a module."""
    domain = env.get_domain("py")
    for module in PUBLIC if node.get("refdomain") == "py" else ():
        name = f"{module}.{node['reftarget']}"
        if name in domain.objects:
            where = node.get("refdoc", env.docname)
            return domain.resolve_xref(
                env, where, app.builder, "obj", name, node, contnode
            )
    return None


def public(name, *rest):
    """As ``py:obj``, beside which sphinx-gallery misses references after literals."""
    return PyXRefRole()("py:obj", *rest)


def setup(app):
    """Connect what this file adds."""
    app.add_role("public", public)
    app.connect("missing-reference", resolve_public)


# Fits of the whole zoo are slow; only the pictures are kept.
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"plot_",
    "download_all_examples": False,
    "show_memory": False,
    "reset_modules": ("matplotlib",),
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("fute_sklearn",),
    "within_subsection_order": "FileNameSortKey",
}
suppress_warnings = ["config.cache"]
