#!/bin/sh
# Builds the ceremony's helper into dist/native/ekms-kek. Needs a C compiler and the headers that pkcs11js brings.
set -eu
cd "$(dirname "$0")/.."
mkdir -p dist/native
# Renamed when whole: two builds at once do not harm each other.
"${CC:-cc}" -std=c11 -D_DEFAULT_SOURCE -O2 -Wall -Wextra -I node_modules/pkcs11js/includes -o "dist/native/ekms-kek.$$" native/kek.c -ldl
mv "dist/native/ekms-kek.$$" dist/native/ekms-kek
