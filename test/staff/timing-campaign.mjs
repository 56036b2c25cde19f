// `--seed S --count N`: the measurement of timing.spec.ts with N requests for each half and the strict bound. Ends with Jest's verdict and exit status.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values } = parseArgs({ options: { seed: { type: 'string', default: '1' }, count: { type: 'string', default: '5000' } } });
const root = fileURLToPath(new URL('../../', import.meta.url));
const env = { ...process.env, EKMS_TIMING_COUNT: values.count, EKMS_TIMING_SEED: values.seed };
const { status } = spawnSync(process.execPath, ['node_modules/jest/bin/jest.js', 'test/staff/timing.spec.ts'], {
  cwd: root,
  env,
  stdio: 'inherit',
});
process.exitCode = status ?? 1;
