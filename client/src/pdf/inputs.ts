import { globSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { Fault } from '../../../src/foundation/index.js';

/** One document and where its result goes. */
export interface Job {
  input: string;
  output: string;
}

/**
 * Which files become which: names, patterns, and with `recursive` folders. One file goes where `output` says; several go into the folder `output`, each under
 * its own name, in the tree that it was found in. Throws `usage`.
 */
export function jobsOf(inputs: readonly string[], output: string, recursive: boolean): Job[] {
  const found = inputs.flatMap((input) => expanded(input, recursive));
  if (found.length === 0) throw usage(`${inputs.join(', ')}: there is no PDF`);
  const isFolder = isDirectory(output);
  const [only] = found;
  if (found.length === 1 && only && !isFolder && !recursive) return [distinct({ input: only.path, output })];
  if (!isFolder && pathExists(output)) throw usage(`${output} is no folder, and ${found.length} files are to go there`);
  const jobs = found.map(({ path, within }) => distinct({ input: path, output: join(output, within) }));
  const twice = jobs.find((job, index) => jobs.findIndex((other) => resolve(other.output) === resolve(job.output)) !== index);
  if (twice) throw usage(`two files would become ${twice.output}`);
  for (const job of jobs) mkdirSync(dirname(job.output), { recursive: true });
  return jobs;
}

function distinct(job: Job): Job {
  if (resolve(job.input) === resolve(job.output))
    throw usage(`${job.output} is the document itself, which stays as it is: give another name to -o`);
  return job;
}

function expanded(input: string, recursive: boolean): { path: string; within: string }[] {
  if (isDirectory(input)) {
    if (!recursive) throw usage(`${input} is a folder: add --recursive to take what is in it`);
    return readdirSync(input, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && /\.pdf$/i.test(entry.name))
      .map((entry) => join(entry.parentPath, entry.name))
      .sort()
      .map((path) => ({ path, within: relative(input, path) }));
  }
  if (pathExists(input) || !/[*?[{]/.test(input)) return [{ path: input, within: basename(input) }];
  return globSync(input)
    .filter((path) => !isDirectory(path))
    .sort()
    .map((path) => ({ path, within: basename(path) }));
}

const pathExists = (path: string): boolean => statSync(path, { throwIfNoEntry: false }) !== undefined;
const isDirectory = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
const usage = (words: string) => new Fault('malformed', 'usage', words);
