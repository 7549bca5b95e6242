#!/bin/sh
# SPDX-License-Identifier: MIT
# Stands for a test program that could not be built: skipped.sh NAME REASON
echo "1..1"
echo "ok 1 - $1 # SKIP $2"
