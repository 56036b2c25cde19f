import { readFileSync } from 'node:fs';

export const median = (values) => quantile(values, 0.5);

export function quantile(values, q) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN;
}

/** `median (lowest … highest)`. */
export const spread = (values, digits = 0) =>
  `${median(values).toFixed(digits)} (${Math.min(...values).toFixed(digits)} … ${Math.max(...values).toFixed(digits)})`;

/** One ratio per round, so that what else the machine did in that round is on both sides. */
export const ratios = (of, to) => of.map((value, round) => value / to[round]);

/** Between which values the median of as many values lies in 95 of 100 runs (order statistics of the binomial distribution). */
export function chance(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const half = 0.98 * Math.sqrt(sorted.length);
  const at = (place) => sorted[Math.max(0, Math.min(sorted.length - 1, Math.round(place)))];
  return [at(sorted.length / 2 - half), at(sorted.length / 2 + half - 1)];
}

/** CPU seconds that a process and its threads have used (proc(5), stat: utime, stime; 100 ticks a second). */
export function cpuSeconds(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** Says what was measured against what was wanted. A missed target is a figure, not an error of the bench. */
export function verdict(name, value, wanted, isEnough = value >= wanted, digits = 2) {
  console.log(`${isEnough ? 'reached' : 'MISSED '}  ${name}: ${value.toFixed(digits)} (wanted ${wanted})`);
}

export const machine = () => {
  const cpu = /model name\s*: (.*)/.exec(readFileSync('/proc/cpuinfo', 'latin1'))?.[1] ?? 'unknown CPU';
  const cores = readFileSync('/proc/cpuinfo', 'latin1').match(/^processor/gm)?.length ?? 0;
  return `${new Date().toISOString().slice(0, 10)}, ${cores} cores of ${cpu}, load ${readFileSync('/proc/loadavg', 'latin1').split(' ')[0]}, Node ${process.versions.node}`;
};
