#!/bin/sh
# Builds the pages in docs/ as a site of HTML in build/docs/site, with a search that works without a network. What Sphinx warns of is an
# error: a link that leads nowhere, a page in no chapter. Installs Sphinx into build/docs (120 MB).
set -eu
cd "$(dirname "$0")/../.."
at=build/docs
if ! [ -e $at/venv/done ] || [ scripts/docs/requirements.txt -nt $at/venv/done ]; then
	mkdir -p $at
	python3 -m venv $at/venv
	$at/venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r scripts/docs/requirements.txt
	touch $at/venv/done
fi
$at/venv/bin/sphinx-build -W --keep-going -q -c scripts/docs -d $at/cache docs $at/site
echo "$at/site/index.html"
