import { basename } from 'node:path';
import { CUSTODY_SETTINGS, isSameDisk, type ListedBackup, recall, type SpoiltBackup, spoiltBackups } from '../custody/index.js';
import { isFault } from '../foundation/index.js';
import type { House } from '../house.js';
import { parsePackage } from '../tokens/index.js';
import { type Finding, Findings } from './finding.js';

const DAY = 86_400_000;
/** Days after which a drill should be done again. */
const DRILL_DAYS = 180;
/** Bundles of 256 entries of the log's copy that are read where no appliance runs. */
const LOOKED_AT = 256;

/** Whether the keys outlive this machine. */
export async function examineCustody({
  token,
  storage,
  clock,
  configuration,
  second,
  logCopy,
  documentRecovery,
  backups,
}: House): Promise<Finding[]> {
  const findings = new Findings('custody');
  const { durability, escrow, home } = configuration;
  if (durability === 'two' && escrow) {
    // Where nothing was born since the start nobody has looked. What it finds, the place says.
    await second.requireKnown('authority').catch((error: unknown) => {
      if (!isFault(error, 'second-place-away')) throw error;
    });
    if (second.trouble !== undefined)
      findings.say('bad', `the second place is away: ${second.trouble}. No key is born and no certificate issued until it is back`);
    else if (logCopy?.trouble !== undefined)
      findings.say('bad', `the second place: ${logCopy.trouble}. What is revoked is not known to a restore by it alone until it is back`);
    else if (logCopy) await examineCopy(logCopy, findings);
    if (isSameDisk(escrow.directory, home)) findings.say('bad', `the second place ${escrow.directory} is on the first disk`);
  } else
    findings.say(
      'warn',
      'a key made since the last backup dies with the disk (durability: one): on a second disk each lies twice (durability: two)',
    );
  const text = await token.custody();
  if (text === null) {
    findings.say(
      'bad',
      'this appliance was made without custodians ("ekms init"): when its token is lost, every key is. For evaluation only; "ekms ceremony" makes one that lasts',
    );
    return findings.end('');
  }
  const { threshold, shares, ceremony, recovery } = parsePackage(text).package;
  const now = clock.now().getTime();
  const backup = await recall<{ time: number }>(storage, CUSTODY_SETTINGS.backup);
  const drill = await recall<{ time: number }>(storage, CUSTODY_SETTINGS.drill);
  const { everyHours, directory } = configuration.backup;
  if (!recovery)
    findings.say(
      'warn',
      'no recovery agents were named at the ceremony: nobody’s mail can ever be read without them, nor their keys moved',
    );
  if (isSameDisk(directory, home))
    findings.say('warn', `backups lie on the disk that they are for (${directory}): name another as backup.directory, or copy them away`);
  if (!backup) findings.say('bad', 'no backup was made yet: ekms backup create');
  else if (everyHours > 0 && now - backup.time > 2 * everyHours * 3_600_000)
    findings.say('bad', `the last backup is ${Math.round((now - backup.time) / 3_600_000)} hours old; one is due every ${everyHours}`);
  const listed = await backups.list();
  examineBackups(listed, findings);
  examineSpoilt(listed, await spoiltBackups(storage), findings);
  if (!drill) findings.say('bad', 'no restore was drilled yet, so nobody knows that the shares open anything: ekms drill');
  else if (now - drill.time > DRILL_DAYS * DAY)
    findings.say('warn', `the last drill was ${Math.round((now - drill.time) / DAY)} days ago: ekms drill`);
  const reader = await documentRecovery.standing().catch((error: unknown) => {
    if (!isFault(error, 'record-forged')) throw error;
    findings.say('bad', `no document can be encrypted: ${error.message}. ekms recovery documents off, and on again`);
  });
  if (reader && !reader.certificate)
    findings.say(
      'bad',
      `no document can be encrypted: ${reader.address}, which is to read each, has no valid certificate. ekms key replace ${reader.address}`,
    );
  return findings.end(
    `${threshold} of ${shares.length} shares of ceremony ${ceremony.toString('hex').slice(0, 8)} open the backups; a restore was drilled`,
  );
}

/** Where no appliance runs nobody has looked at it: the newest of it is read here, and nothing written. */
async function examineCopy(logCopy: NonNullable<House['logCopy']>, findings: Findings): Promise<void> {
  if (logCopy.mended > 0)
    findings.say(
      'warn',
      `${logCopy.mended} files of the copy of the log at the second place had changed and were written anew since the start: look at that disk`,
    );
  if (logCopy.isFollowing) return;
  try {
    const { size, behind, damaged } = await logCopy.readAgain({ mend: false, most: LOOKED_AT });
    const [first] = damaged;
    if (first)
      findings.say(
        'bad',
        `${damaged.length} files of the copy of the log at the second place are not as the log has them (${first}): a running appliance writes anew what is surely of the log, and says what is not`,
      );
    if (behind > 0)
      findings.say(
        'warn',
        `the copy of the log at the second place has ${size} entries and lacks ${behind}: a running appliance goes on with it`,
      );
  } catch (error) {
    findings.say('bad', `the second place: the copy of the log cannot be read again: ${(error as Error).message}`);
  }
}

/** Those of which a restore would not find all. An older one keeps retention from removing any: nobody knows what it builds on. */
export function examineBackups([newest, ...older]: readonly ListedBackup[], findings: Findings): void {
  const lacks = ({ file, id }: ListedBackup) =>
    `${file}, ${id === null ? 'has no first line that can be read' : 'builds on one that is not beside it, or cannot be read'}`;
  if (newest?.needs === null) findings.say('bad', `the newest backup, ${lacks(newest)}: put that back, or ekms backup create --full`);
  for (const each of older)
    if (each.needs === null)
      findings.say('warn', `a backup, ${lacks(each)}: no old backup is removed until that is put back or ${each.file} is taken away`);
}

/** Those that rotted where they lie. What is newer does not build on them; what is older and does is lost with them. */
export function examineSpoilt(listed: readonly ListedBackup[], spoilt: readonly SpoiltBackup[], findings: Findings): void {
  for (const { name, words, time } of spoilt) {
    const file = listed.find(({ file }) => basename(file) === name)?.file;
    if (file === undefined) continue;
    findings.say(
      'bad',
      `on ${new Date(time).toISOString().slice(0, 10)} a backup was found damaged, ${file}: ${words}. The next one was made in full. Look at its disk; put the file back from a copy (then ekms backup verify ${file}), or take it away`,
    );
  }
}
