#!/bin/sh
# Writes what is generated from the controllers: the contract (docs/openapi.json) and the client's types. test/http/openapi.spec.ts fails while they differ.
set -eu
root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root"
# The client may not fit the new contract yet; what is needed here is emitted all the same.
node_modules/.bin/tsc -p tsconfig.build.json || true
exec node_modules/.bin/node --input-type=module -e "
import 'reflect-metadata';
import { writeFileSync } from 'node:fs';
const { CONTROLLERS } = await import('$root/dist/src/app.module.js');
const { openApi, openApiTypes } = await import('$root/dist/src/http/index.js');
const document = openApi(CONTROLLERS);
writeFileSync('docs/openapi.json', JSON.stringify(document, undefined, 2) + '\n');
writeFileSync('client/src/sdk/contract.ts', openApiTypes(document));
"
