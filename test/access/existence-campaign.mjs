// 5,000 requests for people that the appliance knows and 5,000 for people it does not: what is said and how long it takes. `--seed S --count N`.
// Ends with one line of JSON and exit status 0 only if no byte differs and |t| < 4.5.
import '../support/typescript.mjs';
import 'reflect-metadata';
import { parseArgs } from 'node:util';

const { values } = parseArgs({ options: { seed: { type: 'string', default: '1' }, count: { type: 'string', default: '5000' } } });
// Jest gives modules their folder under this name; here nobody does. What reads it lies in test/support.
globalThis.__dirname = `${import.meta.dirname}/../support`;
const { compareAnswers } = await import('./existence.ts');
const found = await compareAnswers(Number(values.seed), Number(values.count));
console.log(JSON.stringify(found));
process.exitCode = found.different === 0 && Math.abs(found.t) < 4.5 && Math.abs(found.tCropped) < 4.5 ? 0 : 1;
