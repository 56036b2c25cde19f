// Jest begins with large files when it knows no times, as on a fresh checkout. Our longest tests are short files that start whole appliances:
// begun last, one of them ends alone while the other core waits.
const Sequencer = require('@jest/test-sequencer').default;

const LONGEST = [
  /\/faults\/crash/,
  /\/e2e\/(commands|two-persons|token-unit|custody|durability)/,
  /\/(e2e|faults)\//,
  /\/(mail\/mail-queue|codec\/pdf\/fuzz|audit\/kills|directory\/sync|storage\/row-size)/,
  /\/(tokens|interop|campaigns)\//,
  /\/http\/tls/,
];
const weight = ({ path }) => LONGEST.findIndex((pattern) => pattern.test(path)) >>> 0;

module.exports = class LongestFirst extends Sequencer {
  sort(tests) {
    return [...super.sort(tests)].sort((a, b) => weight(a) - weight(b));
  }
};
