#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Prints shell code that puts the built programs on PATH: eval "$(make env)"
here=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
printf 'export PATH="%s/build/bin:$PATH"\n' "$here"
