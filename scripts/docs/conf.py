"""Settings of Sphinx for the pages in docs/, which scripts/docs/build.sh builds as a site."""
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCE = "https://github.com/ctnas/ctnas/blob/main/"

project = "ctnas"
author = "the authors of ctnas"
release = subprocess.run(["git", "describe", "--always", "--tags"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
extensions = ["myst_parser"]
myst_heading_anchors = 4  # names of headings as on GitHub, for links
exclude_patterns = ["examples"]
root_doc = "index"
suppress_warnings = ["myst.header"]  # the page of settings puts tables of all commands before the first command
html_theme = "furo"
html_title = "ctnas"
html_copy_source = False
html_show_sphinx = False

CHAPTERS = {
    "Tutorials": ["tutorials/paper", "tutorials/latency", "tutorials/own-models"],
    "Guides": ["searching", "spaces", "exec", "ask", "python", "training", "data", "supernets", "one-shot", "latency", "farm", "launch",
               "operations", "zoo"],
    "Reference": ["settings", "json", "glossary", "faq"],
    "Understand": ["comparator", "compared", "performance"],
    "Developers": ["architecture", "gpu", "notes"],
}


def chapters(app, name, lines):
    """Puts the list of all pages below the first one: on GitHub the page has tables for it."""
    if name != root_doc:
        return
    there = {str(p.relative_to(ROOT / "docs").with_suffix("")) for p in (ROOT / "docs").rglob("*.md")}
    unlisted = there - {page for pages in CHAPTERS.values() for page in pages} - {root_doc}
    if {"search", "genindex"} & there:
        raise RuntimeError("search.md and genindex.md would be lost: Sphinx writes pages of these names itself")
    if unlisted:
        raise RuntimeError(f"scripts/docs/conf.py has no chapter for {sorted(unlisted)}")
    for title, pages in CHAPTERS.items():
        lines[0] += f"\n\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n" + "\n".join(p for p in pages if p in there) + "\n```\n"


def outside(app, name, lines):
    """Has links that lead out of docs/ lead to the repository."""
    folder = (ROOT / "docs" / name).parent

    def link(match):
        path, _, anchor = match[1].partition("#")
        to = (folder / path).resolve()
        if "://" in path or not path or (to.is_relative_to(ROOT / "docs") and to.suffix == ".md"):
            return match[0]
        return "](" + SOURCE + str(to.relative_to(ROOT)) + ("#" + anchor if anchor else "") + ")"

    lines[0] = re.sub(r"\]\(([^)\s]+)\)", link, lines[0])


def setup(app):
    app.connect("source-read", outside)
    app.connect("source-read", chapters)
