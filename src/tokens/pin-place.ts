import { existsSync, realpathSync } from 'node:fs';
import { dirname, sep } from 'node:path';

/** systemd hands credentials over in a folder of memory; /run is one too. Anywhere else the PIN is on the disk that the token's own files are on. */
export function pinPlace(pinFile: string | undefined): { verdict: 'good' | 'bad'; words: string } {
  if (pinFile === undefined) return { verdict: 'good', words: 'the PIN is given by a person after each start' };
  if (!existsSync(pinFile)) return { verdict: 'bad', words: `there is no PIN in ${pinFile}` };
  const folder = dirname(realpathSync(pinFile)) + sep;
  const volatile = ['/run', process.env['CREDENTIALS_DIRECTORY']]
    .filter((place) => place !== undefined && place !== '')
    .map((place) => `${place}${sep}`);
  return volatile.some((place) => folder.startsWith(place))
    ? { verdict: 'good', words: `the PIN is handed over at start (${pinFile})` }
    : {
        verdict: 'bad',
        words: `the PIN lies on the disk (${pinFile}): who steals the disk has every key. Seal it with systemd-creds and name its place as token.pinFile`,
      };
}
